"""A metric against a setting of numbers: the picture of a search over learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dltrain.compare import settings
from dltrain.compare.columns import Column, Columns
from dltrain.compare.figure import (
    GREY,
    PALETTE,
    drawn_metric,
    figure,
    is_fraction,
    label_with,
    save,
    show_fraction,
    spread_in_words,
)
from dltrain.compare.metrics import Metric
from dltrain.compare.run import Run, Value
from dltrain.compare.scale import Scale, number_of, scale_of
from dltrain.compare.table import Options, in_short, make_table, order, stat
from dltrain.compare.text import cut, printable
from dltrain.effects import BUDGET, covers
from dltrain.errors import UserError

MARKERS = ("o", "s", "^")
MAX_KINDS = len(PALETTE) * len(MARKERS)
FAR = 100  # times the smallest: losses of those that diverge leave no room for the others
MAX_LABEL = 32


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    color: Value


@dataclass(frozen=True)
class Axes:
    """What is drawn over what. `is_function`: beside `x` and `color` nothing differs but seeds;
    `over`: what differs where several runs have one place."""

    x: Column
    color: Column | None
    metric: Metric
    is_function: bool
    over: str


def plot_against(
    found: Sequence[Run], options: Options, x: str, color: str, file: Path
) -> list[str]:
    """A point a run; mean and deviation where runs share a value. Returns what is to be said of it.

    Raises UserError for a setting that has no numbers, or just one.
    """
    table = make_table(found, replace(options, group="", columns="", sort="", descending=False))
    metric = drawn_metric(table, options)
    columns = Columns([run for group in table.groups for run in group.runs], options.at)
    across = columns.one(x, "--x")
    column = columns.metric(metric)
    by, others = color_of(columns, across, color)
    columns.load()
    check_numbers(columns, across)
    places = [(number_of(across.get(run)), column.get(run), run) for run in columns.found]
    points = [
        Point(at, value, by.get(run) if by else None)
        for at, value, run in places
        if at is not None and isinstance(value, int | float)
    ]
    if not points:
        raise UserError(f"no run has both {across.name} and {metric.title}")
    notes = list(table.notes)
    if len(points) < len(places):
        missing = len(places) - len(points)
        notes.append(f"{missing} of {len(places)} runs lack {across.name} or {metric.title}")
    seeds = [key for key in columns.varied if key.endswith("seed") and key != across.name]
    names = settings.short_names([*others, *seeds])
    if others and not by:
        notes.append(
            f"the runs differ in {', '.join(others)} as well: --color KEY shows one, "
            "--where fixes others"
        )
    is_function = not others and across.is_setting
    over = ", ".join(names.values()) or "runs of one setting"
    if len(over) > MAX_LABEL:
        over = f"{len(names)} settings"
    draw(points, Axes(across, by, metric, is_function, over), file)
    return notes


def color_of(columns: Columns, across: Column, typed: str) -> tuple[Column | None, list[str]]:
    """What is typed, or the one setting that differs as well; and what differs beside it. A budget
    and a seed are typed, or have no colour."""
    others = [
        key
        for key in columns.varied
        if key != across.name and not key.endswith("seed") and not covers(BUDGET, key)
    ]
    if typed:
        column = columns.one(typed, "--color")
        return column, [key for key in others if key != column.name]
    if len(others) != 1 or not across.is_setting:
        return None, others
    return columns.setting(others[0], settings.short_names(others)[others[0]]), []


def check_numbers(columns: Columns, across: Column) -> None:
    """Raises UserError where there is no axis."""
    values = [value for run in columns.found if (value := across.get(run)) is not None]
    numbers = {number_of(value) for value in values}
    if len(numbers) > 1 and None not in numbers:
        return
    fit = [
        f"`{key}`"
        for key in columns.varied
        if len(found := {number_of(run.settings.get(key)) for run in columns.found} - {None}) > 1
        and found
    ]
    wrong = "has text" if None in numbers else "has one value" if values else "has no value"
    known = f": {in_short(values)}" if values else ""
    raise UserError(
        f"--x {across.name} {wrong}{known}; it needs numbers that differ, "
        + (f"as {', '.join(fit[:6])}" if fit else "and no setting of these runs has some")
    )


# ---------------------------------------------------------------------- drawing


def draw(points: Sequence[Point], what: Axes, file: Path) -> None:
    series: dict[Value, list[Point]] = {}
    for point in sorted(points, key=lambda point: (order(point.color), point.x)):
        series.setdefault(point.color, []).append(point)
    colors = colors_of(list(series), what)
    names = [cut(printable(settings.show(kind)), MAX_LABEL) for kind in series]
    has_legend = what.color is not None and colors is None
    places = [(point.x, point.color) for point in points]
    counts = [count for place in set(places) if (count := places.count(place)) > 1]
    scale = scale_of(point.x for point in points)
    width = 4.6 + has_legend * (0.35 + 0.062 * max(map(len, [*names, what_color(what)])))
    with figure(width + 0.8 * bool(colors), 3.1) as (made, axes):
        for at, (kind, name) in enumerate(zip(series, names, strict=True)):
            number = number_of(kind)
            color = PALETTE[at % len(PALETTE)]
            if colors:
                color = GREY if number is None else colors.color(number)
            look = {"color": color, "marker": MARKERS[0 if colors else at // len(PALETTE)]}
            draw_series(axes, series[kind], look, name, what.is_function)
        axes.set_xscale(scale.kind, **scale.options())
        scale.set_ticks(axes.xaxis)
        axes.set_xlabel(printable(what.x.heading[-1]) if what.x.is_setting else what.x.title)
        set_values(axes, points, what.metric)
        if colors and what.color:
            colors.add_bar(made, axes, printable(what_color(what)))
        if has_legend:
            made.legend(loc="outside right upper", title=printable(what_color(what)),
                        alignment="left")  # fmt: skip
        if counts:
            spread = spread_in_words(what.over, counts)
            axes.set_title(printable(spread), fontsize=8.5, loc="right", color=GREY)
        save(made, file)


def what_color(what: Axes) -> str:
    return what.color.heading[-1] if what.color else ""


def colors_of(kinds: Sequence[Value], what: Axes) -> Scale | None:
    """One scale for many numbers; None where each value has a colour, or a marker, of its own.

    Raises UserError where these do not suffice.
    """
    numbers = [number for kind in kinds if (number := number_of(kind)) is not None]
    is_numeric = len(numbers) == sum(kind is not None for kind in kinds)
    if is_numeric and len(numbers) > len(PALETTE):
        return scale_of(numbers)
    if len(kinds) > MAX_KINDS:
        raise UserError(
            f"{len(kinds)} values of {what_color(what)} are more than the {MAX_KINDS} that can be "
            "told apart; --where leaves some out, --color names another setting"
        )
    return None


def draw_series(
    axes: Any, points: Sequence[Point], look: dict[str, Any], name: str, is_function: bool
) -> None:
    """Every run, faint where it is one of several; and these as their mean and deviation."""
    by_x: dict[float, list[float]] = {}
    for point in points:
        by_x.setdefault(point.x, []).append(point.y)
    xs = list(by_x)
    stats = [stat(values) for values in by_x.values()]
    means = [each.mean for each in stats if each]
    has_spread = any(each and each.std is not None for each in stats)
    dots = {"ls": "", "ms": 4, "mew": 0, "alpha": 0.35 if has_spread else 0.9}
    dots |= look | {"label": "_" if has_spread else name}
    axes.plot([point.x for point in points], [point.y for point in points], **dots)
    if is_function and len(xs) > 1:
        axes.plot(xs, means, color=look["color"], lw=1.2, alpha=0.7, zorder=1.8)
    if has_spread:
        stds = [each.std or 0.0 for each in stats if each]
        axes.errorbar(xs, means, yerr=stds, fmt=look["marker"], color=look["color"], ms=4.5,
                      capsize=2.5, elinewidth=1.1, label=name)  # fmt: skip


def set_values(axes: Any, points: Sequence[Point], metric: Metric) -> None:
    values = [point.y for point in points]
    axes.set_ylabel(label_with(metric))
    if is_fraction(metric):
        show_fraction(axes.yaxis)
    elif min(values) > 0 and max(values) > FAR * min(values):
        axes.set_yscale("log")
        scale_of(values).set_ticks(axes.yaxis)
