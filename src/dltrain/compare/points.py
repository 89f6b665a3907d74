"""What has one value a run, as points: a row a setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dltrain.compare.figure import (
    PALETTE,
    figure,
    is_fraction,
    label_of,
    label_with,
    save,
    show_fraction,
    spread_in_words,
    with_counts,
)
from dltrain.compare.metrics import Curves, Metric
from dltrain.compare.table import Group, Options, stat
from dltrain.errors import UserError

MAX_POINTS = 60  # rows of a picture


@dataclass(frozen=True)
class Points:
    label: str
    style: int
    values: list[float]


def values_of(groups: Sequence[Group], metric: Metric, notes: list[str]) -> list[list[float]]:
    """For each group, those of its runs that have a value."""
    curves = Curves([metric], [run for group in groups for run in group.runs])
    notes += curves.notes
    return [
        [value for run in group.runs if (value := curves.value(metric, run)) is not None]
        for group in groups
    ]


def draw_points(rows: Sequence[Points], metric: Metric, options: Options, file: Path) -> None:
    """A row a setting: each run's value, and where there are several their mean ± spread."""
    counts = [len(row.values) for row in rows]
    labels = with_counts([row.label for row in rows], counts, options)
    names = list(dict.fromkeys(labels))
    if len(names) > MAX_POINTS:
        raise UserError(
            f"{len(names)} rows are more than {MAX_POINTS}\n"
            "--group seed joins runs, --x KEY draws them over a setting"
        )
    has_colors = len({row.style for row in rows}) <= len(PALETTE)  # those of the curves
    places = [len(names) - 1 - names.index(label) for label in labels]  # the first above
    width = 3.6 + 0.062 * max(map(len, names))
    with figure(width, 1.0 + 0.24 * len(names)) as (made, axes):
        for row, place in zip(rows, places, strict=True):
            values = row.values
            color = PALETTE[row.style * has_colors]
            faint = 0.45 if len(values) > 1 else 0.9
            axes.plot(values, [place] * len(values), "o", ms=3.5, mew=0, alpha=faint, color=color)
            found = stat(values)
            if found and found.std is not None:
                look = {"fmt": "D", "ms": 4, "capsize": 3, "elinewidth": 1.2, "color": color}
                axes.errorbar([found.mean], [place], xerr=[found.std], **look)
        axes.set_yticks(range(len(names)), names[::-1])
        axes.set_ylim(-0.6, len(names) - 0.4)
        spread = spread_in_words(options.group, counts)
        name = label_of(metric) if metric.kind == "last" else label_with(metric)
        axes.set_xlabel(name + (f"\n{spread}" if spread else ""))
        if is_fraction(metric):
            show_fraction(axes.xaxis)
        save(made, file)
