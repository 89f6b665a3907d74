"""Curves of runs for a paper, with their spread; and what has one value a run, as points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain.compare import settings
from dltrain.compare.curves import Curve, read_curves
from dltrain.compare.figure import (
    GREY,
    PALETTE,
    drawn_metric,
    figure,
    is_fraction,
    label_of,
    save,
    span,
)
from dltrain.compare.metrics import Metric
from dltrain.compare.run import Run
from dltrain.compare.smooth import Line, line_over
from dltrain.compare.table import Options, Table, make_table, stat
from dltrain.compare.text import cut, printable
from dltrain.errors import UserError

DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
MAX_LINES = len(PALETTE) * len(DASHES)
MAX_POINTS = 60  # rows of a picture of points
MAX_LABEL = 48
SMOOTH_TRAINING, LONG = 0.6, 30  # the weight where a curve has so many points


@dataclass(frozen=True)
class Drawn:
    """The curves of a row of the table: their mean, and that of the values as they are."""

    curves: list[Curve]
    line: Line
    unsmoothed: Line
    style: int  # runs of one setting look alike

    @property
    def label(self) -> str:
        return self.line.label


def plot_curves(
    found: Sequence[Run], options: Options, weight: float | None, file: Path
) -> list[str]:
    """A line a row of the table. Returns what is to be said of it.

    Raises UserError for more lines than can be told apart, and where no run has the metric.
    """
    table = make_table(found, options)
    metric = drawn_metric(table, options)
    # Of a group the last one says what the picture says itself
    notes = table.notes[:-1] if options.group else table.notes
    curves = curves_of(table, metric, notes)
    longest = max((len(curve.steps) for each in curves for curve in each), default=0)
    if weight is None:
        weight = SMOOTH_TRAINING if metric.split == "train" and longest >= LONG else 0.0
    labels, styles = labels_of(table, options)
    rows = [
        Drawn(each, line_over(label, each, weight), line_over(label, each, 0.0), style)
        for label, each, style in zip(labels, curves, styles, strict=True)
    ]
    rows = [row for row in rows if row.curves]
    if not rows:
        raise UserError(f"no run has {metric.key} in its metrics.jsonl")
    if metric.split == "test" or longest == 1:
        draw_points(rows, metric, options, file)
        return notes
    notes += cut_short(rows) + hidden(rows)
    rows = [row for row in rows if row.line.steps]
    if not rows:
        raise UserError(f"the runs of no group have {metric.key} at the same step; drop --group")
    num_styles = len({row.style for row in rows})
    if num_styles > MAX_LINES:
        raise UserError(
            f"{num_styles} curves are more than the {MAX_LINES} that can be told apart\n"
            "--group seed joins runs, --where leaves some out"
        )
    draw(rows, metric, weight, options, file)
    return notes


def curves_of(table: Table, metric: Metric, notes: list[str]) -> list[list[Curve]]:
    """For each row of the table, those of its runs that have a value."""
    wanted = (metric.name, metric.split)
    found: list[list[Curve]] = []
    for group in table.groups:
        found.append([])
        for run in group.runs:
            try:
                curve = read_curves(run.path, [wanted])[wanted]
            except UserError as error:
                notes += [str(error)] * (str(error) not in notes)
                continue
            found[-1] += [curve] if curve.values else []
    return found


def cut_short(rows: Sequence[Drawn]) -> list[str]:
    """What a line leaves out."""
    notes = []
    for row in rows:
        last = max(curve.steps[-1] for curve in row.curves)
        if last > (row.line.steps[-1] if row.line.steps else 0):
            n = row.line.n
            notes.append(f"{row.label}: not drawn where not all of its {n} runs have a value")
    return notes


def hidden(rows: Sequence[Drawn]) -> list[str]:
    """What lies below another line, to the last digit."""
    first: dict[tuple[tuple[int, ...], tuple[float, ...]], str] = {}
    notes = []
    for row in rows:
        seen = first.setdefault((tuple(row.line.steps), tuple(row.line.means)), row.label)
        if seen != row.label:
            notes.append(f"{row.label}: the same curve as {seen}, and drawn over it")
    return notes


def labels_of(table: Table, options: Options) -> tuple[list[str], list[int]]:
    """What tells the lines apart: their settings, or the names of the runs where those do not; and
    which look alike: the runs of one setting, where several settings have several seeds."""
    shown = [i for i, column in enumerate(table.columns) if column.is_setting]
    labels = [in_words(table, row, shown) for row in table.rows]
    if len(set(labels)) < len(labels) or "" in labels:
        labels = [group.runs[0].name for group in table.groups]
    without_seed = [i for i in shown if not table.columns[i].name.endswith("seed")]
    alike = [in_words(table, row, without_seed) for row in table.rows]
    if not options.group and 1 < len(set(alike)) < len(alike):
        labels = [f"{t} ({n} runs)" if (n := alike.count(t)) > 1 else t for t in alike]
    each = list(dict.fromkeys(labels))
    return [cut(printable(text), MAX_LABEL) for text in labels], [each.index(t) for t in labels]


def in_words(table: Table, row: Sequence[Any], shown: Sequence[int]) -> str:
    return ", ".join(f"{table.columns[i].heading[0]} {settings.show(row[i])}" for i in shown)


def spread_in_words(rows: Sequence[Drawn], options: Options) -> str:
    if not options.group:
        return ""
    return f"mean ± sample std over {options.group}, n = {span([row.line.n for row in rows])}"


# ---------------------------------------------------------------------- drawing


def draw(
    rows: Sequence[Drawn], metric: Metric, weight: float, options: Options, file: Path
) -> None:
    """In the order of the table, so that a setting has one colour in the plots of all metrics."""
    labels = label_each(rows, options)
    num_entries, named = len(set(labels)), set()
    spread, has_legend = spread_in_words(rows, options), num_entries > 1
    width = 4.4 + has_legend * (0.35 + 0.062 * max(len(spread), *map(len, labels)))
    with figure(width, max(2.9, 0.21 * num_entries)) as (made, axes):
        for row, label in zip(rows, labels, strict=True):
            color = PALETTE[row.style % len(PALETTE)]
            look: dict[str, Any] = {"color": color, "ls": DASHES[row.style // len(PALETTE)]}
            look |= {"marker": "o", "markersize": 3} if len(row.line.steps) == 1 else {}
            look |= {"lw": 1.0, "alpha": 0.8} if num_entries < len(rows) else {"alpha": 0.9}
            if weight:  # an average lags: what it is of lies behind it
                raw = row.unsmoothed
                axes.plot(raw.steps, raw.means, color=color, lw=0.6, alpha=0.3, zorder=1.5)
            line, means = row.line, row.line.means
            axes.plot(line.steps, means, label="_" if label in named else label, **look)
            named.add(label)
            if any(line.stds):
                low = [m - s for m, s in zip(means, line.stds, strict=True)]
                high = [m + s for m, s in zip(means, line.stds, strict=True)]
                axes.fill_between(line.steps, low, high, color=color, alpha=0.18, linewidth=0)
        axes.set_xlabel("step")
        averaged = f"\n(moving average, {weight:g}; thin: raw)" if weight else ""
        axes.set_ylabel(label_of(metric) + averaged)
        axes.margins(x=0.01)
        set_ticks(axes, metric)
        if has_legend:
            made.legend(
                loc="outside right upper", title=printable(spread) or None, alignment="left"
            )
        elif spread:
            axes.set_title(spread, fontsize=8.5, loc="right", color=GREY)
        save(made, file)


def label_each(rows: Sequence[Drawn], options: Options) -> list[str]:
    """With its n where the groups have different ones."""
    if not options.group or len({row.line.n for row in rows}) == 1:
        return [row.label for row in rows]
    return [f"{row.label} (n = {row.line.n})" for row in rows]


def set_ticks(axes: Any, metric: Metric) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if is_fraction(metric):
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")


def draw_points(rows: Sequence[Drawn], metric: Metric, options: Options, file: Path) -> None:
    """A row a setting: each run's last value, and where there are several their mean ± spread."""
    labels = label_each(rows, options)
    names = list(dict.fromkeys(labels))
    if len(names) > MAX_POINTS:
        raise UserError(f"{len(names)} rows are more than {MAX_POINTS}; --group seed joins runs")
    places = [len(names) - 1 - names.index(label) for label in labels]  # the first above
    width = 3.6 + 0.062 * max(map(len, names))
    with figure(width, 1.0 + 0.24 * len(names)) as (made, axes):
        for row, place in zip(rows, places, strict=True):
            values = [curve.values[-1] for curve in row.curves]
            color = PALETTE[row.style % len(PALETTE)]
            axes.plot(values, [place] * len(values), "o", ms=3.5, mew=0, alpha=0.45, color=color)
            found = stat(values)
            if found and found.std is not None:
                look = {"fmt": "D", "ms": 4, "capsize": 3, "elinewidth": 1.2, "color": color}
                axes.errorbar([found.mean], [place], xerr=[found.std], **look)
        axes.set_yticks(range(len(names)), names[::-1])
        axes.set_ylim(-0.6, len(names) - 0.4)
        spread = spread_in_words(rows, options)
        axes.set_xlabel(label_of(metric) + (f"\n{spread}" if spread else ""))
        if is_fraction(metric):
            axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
        save(made, file)
