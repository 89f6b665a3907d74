"""What tells the rows of a picture apart, and which of them look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dltrain.compare import settings
from dltrain.compare.scale import number_of
from dltrain.compare.table import Options, Table
from dltrain.compare.text import cut, printable
from dltrain.effects import BUDGET, covers

MAX_LABEL = 48


@dataclass(frozen=True)
class Row:
    """What tells a row of the table from the others."""

    label: str
    style: int  # runs of one setting look alike
    value: float | None  # of the one numeric setting that tells them apart, where there is one


def rows_of(table: Table, options: Options) -> tuple[list[Row], str]:
    """What tells the lines apart: their settings, or the names of the runs where those do not; and
    which look alike: the runs of one setting, where several settings have several seeds. And what
    the one setting is called of which rows have a `value`."""
    shown = [i for i, column in enumerate(table.columns) if column.is_setting]
    shown = without(table, shown, [i for i in shown if covers(BUDGET, table.columns[i].name)])
    labels = [in_words(table, row, shown) for row in table.rows]
    if len(set(labels)) < len(labels) or "" in labels:
        labels = [group.runs[0].name for group in table.groups]
    without_seed = [i for i in shown if not table.columns[i].name.endswith("seed")]
    alike = [in_words(table, row, without_seed) for row in table.rows]
    if not options.group and 1 < len(set(alike)) < len(alike):
        labels = [f"{t} ({n} runs)" if (n := alike.count(t)) > 1 else t for t in alike]
    each = list(dict.fromkeys(labels))
    one = without_seed[0] if len(without_seed) == 1 else None
    rows = [
        Row(cut(printable(text), MAX_LABEL), each.index(text), value_of(row, one))
        for text, row in zip(labels, table.rows, strict=True)
    ]
    return rows, table.columns[one].heading[0] if one is not None else ""


def without(table: Table, shown: list[int], budget: Sequence[int]) -> list[int]:
    """A run that went on for longer is no other setting; unless nothing else tells it apart."""
    kept = [i for i in shown if i not in budget]
    all_labels = {in_words(table, row, shown) for row in table.rows}
    return (
        kept
        if len({in_words(table, row, kept) for row in table.rows}) == len(all_labels)
        else shown
    )


def value_of(row: Sequence[Any], index: int | None) -> float | None:
    return None if index is None else number_of(row[index])


def in_words(table: Table, row: Sequence[Any], shown: Sequence[int]) -> str:
    return ", ".join(f"{table.columns[i].heading[0]} {settings.show(row[i])}" for i in shown)
