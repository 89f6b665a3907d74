"""Curves of runs for a paper, with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain.compare.curves import Curve, read_curves
from dltrain.compare.figure import (
    GREY,
    PALETTE,
    drawn_metric,
    figure,
    is_fraction,
    label_of,
    save,
    show_fraction,
    spread_in_words,
    with_counts,
)
from dltrain.compare.metrics import Metric
from dltrain.compare.points import Points, draw_points, values_of
from dltrain.compare.rows import Row, rows_of
from dltrain.compare.run import Run
from dltrain.compare.scale import Scale, scale_of
from dltrain.compare.smooth import Line, line_over
from dltrain.compare.table import Options, Table, make_table
from dltrain.compare.text import printable
from dltrain.errors import UserError

DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
MAX_LINES = len(PALETTE) * len(DASHES)
SMOOTH_TRAINING, LONG = 0.6, 30  # the weight where a curve has so many points


@dataclass(frozen=True)
class Drawn:
    """The curves of a row of the table: their mean, and that of the values as they are."""

    row: Row
    curves: list[Curve]
    line: Line
    unsmoothed: Line

    @property
    def label(self) -> str:
        return self.row.label


def plot_curves(
    found: Sequence[Run], options: Options, weight: float | None, file: Path
) -> list[str]:
    """A line a row of the table; points where what was asked for is one value a run. Returns what
    is to be said of it.

    Raises UserError for more lines than can be told apart, and where no run has the metric.
    """
    table = make_table(found, options)
    metric = drawn_metric(table, options)
    # Of a group the last one says what the picture says itself
    notes = table.notes[:-1] if options.group else table.notes
    rows, setting = rows_of(table, options)
    if options.metrics and metric.kind != "last":  # `best`, :min, @500
        plot_points(rows, values_of(table.groups, metric, notes), metric, options, file)
        return notes
    curves = curves_of(table, metric, notes)
    longest = max((len(curve.steps) for each in curves for curve in each), default=0)
    if not longest:
        raise UserError(f"no run has {metric.key} in its metrics.jsonl")
    if metric.split == "test" or longest == 1:
        values = [[curve.values[-1] for curve in each] for each in curves]
        plot_points(rows, values, metric, options, file)
        return notes
    if weight is None:
        weight = SMOOTH_TRAINING if metric.split == "train" and longest >= LONG else 0.0
    drawn = [
        Drawn(row, each, line_over(row.label, each, weight), line_over(row.label, each, 0.0))
        for row, each in zip(rows, curves, strict=True)
        if each
    ]
    notes += cut_short(drawn) + hidden(drawn)
    drawn = [each for each in drawn if each.line.steps]
    if not drawn:
        raise UserError(f"the runs of no group have {metric.key} at the same step; drop --group")
    scale = colors_of([each.row for each in drawn])
    look = Look(metric, weight, options, scale, setting)
    draw(drawn, look, file)
    return notes


def plot_points(
    rows: Sequence[Row],
    values: Sequence[list[float]],
    metric: Metric,
    options: Options,
    file: Path,
) -> None:
    found = [
        Points(row.label, row.style, each) for row, each in zip(rows, values, strict=True) if each
    ]
    draw_points(found, metric, options, file)


def colors_of(rows: Sequence[Row]) -> Scale | None:
    """One scale for the values of a setting, where there are more than there are colours; None
    where each row has a colour, or dashes, of its own.

    Raises UserError where these do not suffice.
    """
    values = {row.value for row in rows if row.value is not None}
    if len(values) > len(PALETTE) and not any(row.value is None for row in rows):
        return scale_of(values)
    num_styles = len({row.style for row in rows})
    if num_styles > MAX_LINES:
        raise UserError(
            f"{num_styles} curves are more than the {MAX_LINES} that can be told apart\n"
            "--group seed joins runs, --where leaves some out, --x KEY draws points over a setting"
        )
    return None


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


# ---------------------------------------------------------------------- drawing


@dataclass(frozen=True)
class Look:
    metric: Metric
    weight: float
    options: Options
    scale: Scale | None
    setting: str  # what `scale` is of

    def of(self, each: Drawn, is_one_of_many: bool) -> dict[str, Any]:
        """What matplotlib takes for a line."""
        thin: dict[str, Any] = {"lw": 1.0, "alpha": 0.8} if is_one_of_many else {"alpha": 0.9}
        thin |= {"marker": "o", "markersize": 3} if len(each.line.steps) == 1 else {}
        if self.scale and each.row.value is not None:
            return {"lw": 1.2, "color": self.scale.color(each.row.value)} | thin
        style = each.row.style
        return {"color": PALETTE[style % len(PALETTE)], "ls": DASHES[style // len(PALETTE)]} | thin


def draw(drawn: Sequence[Drawn], look: Look, file: Path) -> None:
    """In the order of the table, so that a setting has one colour in the plots of all metrics."""
    counts = [each.line.n for each in drawn]
    labels = with_counts([each.label for each in drawn], counts, look.options)
    num_entries = len(set(labels))
    spread = spread_in_words(look.options.group, counts)
    has_legend = num_entries > 1 and not look.scale
    width = 4.4 + has_legend * (0.35 + 0.062 * max(len(spread), *map(len, labels)))
    height = max(2.9, 0.21 * num_entries * has_legend)
    with figure(width + 0.8 * bool(look.scale), height) as (made, axes):
        named: set[str] = set()
        for each, label in zip(drawn, labels, strict=True):
            style = look.of(each, num_entries < len(drawn))
            draw_line(axes, each, "_" if label in named else label, style, look.weight)
            named.add(label)
        axes.set_xlabel("step")
        averaged = f"\n(moving average, {look.weight:g}; thin: raw)" if look.weight else ""
        axes.set_ylabel(label_of(look.metric) + averaged)
        axes.margins(x=0.01)
        set_ticks(axes, look.metric)
        if look.scale:
            look.scale.add_bar(made, axes, printable(look.setting))
        if has_legend:
            made.legend(
                loc="outside right upper", title=printable(spread) or None, alignment="left"
            )
        elif spread:
            axes.set_title(spread, fontsize=8.5, loc="right", color=GREY)
        save(made, file)


def draw_line(axes: Any, each: Drawn, label: str, style: dict[str, Any], weight: float) -> None:
    line, color = each.line, style["color"]
    if weight:  # an average lags: what it is of lies behind it
        raw = each.unsmoothed
        axes.plot(raw.steps, raw.means, color=color, lw=0.6, alpha=0.3, zorder=1.5)
    axes.plot(line.steps, line.means, label=label, **style)
    if any(line.stds):
        low = [m - s for m, s in zip(line.means, line.stds, strict=True)]
        high = [m + s for m, s in zip(line.means, line.stds, strict=True)]
        axes.fill_between(line.steps, low, high, color=color, alpha=0.18, linewidth=0)


def set_ticks(axes: Any, metric: Metric) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if is_fraction(metric):
        show_fraction(axes.yaxis)
