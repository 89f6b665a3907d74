"""The configs of two runs, key by key."""

from __future__ import annotations

from dltrain.compare.columns import Column
from dltrain.compare.run import Run
from dltrain.compare.settings import ROOT, identity
from dltrain.compare.table import Cell, Group, Table

KEY = Column("setting", ("setting",), lambda run: None)


def diff(first: Run, second: Run) -> Table:
    """A row for each setting in which they differ; what only one has is `-` in the other."""
    keys = dict.fromkeys([*first.settings, *second.settings])
    rows: list[list[Cell]] = [
        [key, first.settings.get(key), second.settings.get(key)]
        for key in keys
        if identity(first, key) != identity(second, key)
        or (key == ROOT and first.settings.get(key) != second.settings.get(key))
    ]
    names = [first.name, second.name] if first.name != second.name else ["A", "B"]
    columns = [Column(name, (name,), lambda run: None, is_setting=True) for name in names]
    same = len(keys) - len(rows)
    table = Table([KEY, *columns], rows, [Group([first]), Group([second])], may_shrink=False)
    table.notes = [f"{len(rows)} settings differ, {same} are the same"]
    return table
