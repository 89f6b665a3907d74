"""The map of a metric over two settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dltrain.compare import settings
from dltrain.compare.columns import Columns
from dltrain.compare.figure import GREY, drawn_metric, figure, is_fraction, label_with, save, span
from dltrain.compare.metrics import Metric
from dltrain.compare.run import Run
from dltrain.compare.table import Options, Stat, make_table, order, stat
from dltrain.compare.text import cut, printable
from dltrain.errors import UserError

MAX_CELLS = 40  # along one side of a map
MAX_UPRIGHT = 8  # characters of a label below a cell
MANY = 5  # values of a setting: with more, it may have been drawn
Place = tuple[Any, Any]  # the two settings of a cell


def plot_heatmap(found: Sequence[Run], options: Options, keys: Sequence[str], file: Path) -> None:
    """The metric over two settings, averaged over `options.group`.

    Raises UserError where the runs differ in more than these.
    """
    table = make_table(found, replace(options, group="", columns="", sort="", descending=False))
    metric = drawn_metric(table, options)
    columns = Columns([run for group in table.groups for run in group.runs], options.at)
    over = [settings.resolve(k.strip(), columns.found, columns.varied) or k.strip()
            for k in options.group.split(",") if k.strip()]  # fmt: skip
    free = [key for key in columns.varied if key not in over]
    two = [columns.one(key, "--heatmap").name for key in keys] or free
    others = [key for key in free if key not in two]
    if len(two) != 2 or others:
        what = f"the runs differ in {', '.join(others or two) or 'nothing'}"
        raise UserError(
            f"{what}{' as well' * bool(others)}; a map has two settings\n"
            "--heatmap KEY1 KEY2 names them, --group averages over others, --where fixes them"
        )
    column = columns.metric(metric)
    columns.load()
    places = [(run.settings.get(two[0]), run.settings.get(two[1])) for run in columns.found]
    cells: dict[Place, list[float]] = {}
    for run, place in zip(columns.found, places, strict=True):
        value = column.get(run)
        if isinstance(value, int | float):
            cells.setdefault(place, []).append(value)
    across = sorted({x for x, _ in places}, key=order)
    down = sorted({y for _, y in places}, key=order)
    for at, values in enumerate((across, down)):
        check_is_grid(at, two, len(values), set(places))
    if not cells or max(len(across), len(down)) > MAX_CELLS:
        raise UserError(
            f"a map of {len(across)} by {len(down)} values cannot be drawn; 1 to {MAX_CELLS} can"
        )
    names = settings.short_names(two)
    stats = {place: stat(values) for place, values in cells.items()}
    draw_map(stats, Counter(places), (across, down), [names[key] for key in two], metric, file)


def check_is_grid(at: int, keys: Sequence[str], num_values: int, places: set[Place]) -> None:
    """Raises UserError where most values of a setting have a single cell: they were drawn at
    random, or from an interval, and the map would be holes."""
    cells = Counter(place[at] for place in places)
    lonely = sum(count == 1 for count in cells.values())
    if (
        num_values > MANY
        and 2 * lonely > num_values
        and len({place[1 - at] for place in places}) > 1
    ):
        raise UserError(
            f"{lonely} of the {num_values} values of {keys[at]} have one of {keys[1 - at]} alone, "
            "and a map would be holes\n"
            f"--plot FILE --x {keys[at]} draws points, with {keys[1 - at]} as their colour"
        )


def draw_map(
    stats: dict[Place, Stat | None],
    num_runs: Counter[Place],
    values: tuple[list[Any], list[Any]],
    names: Sequence[str],
    metric: Metric,
    file: Path,
) -> None:
    across, down = values
    rows = [[stats.get((x, y)) for x in across] for y in down]
    numbers = [[each.mean if each else float("nan") for each in row] for row in rows]
    with figure(1.9 + 0.62 * len(across), 1.5 + 0.42 * len(down)) as (made, axes):
        axes.grid(False)
        for side in axes.spines.values():
            side.set_visible(False)
        image = axes.imshow(numbers, cmap="viridis", aspect="auto", origin="lower")
        low, high = image.get_clim()
        for row, y in enumerate(down):
            for at, x in enumerate(across):
                cell = rows[row][at]
                if cell is None:  # a hole says why it is one
                    text, color, size = "no value" if num_runs[x, y] else "no run", GREY, 6.5
                else:
                    text, size = number_of(cell, stats, metric), 8
                    bright = high > low and (cell.mean - low) / (high - low) > 0.6
                    color = "black" if bright else "white"
                axes.text(at, row, text, ha="center", va="center", fontsize=size, color=color)
        axes.set_xticks(range(len(across)), [short(value) for value in across])
        axes.set_yticks(range(len(down)), [short(value) for value in down])
        axes.tick_params(length=0)
        if max(len(short(value)) for value in across) > MAX_UPRIGHT:
            axes.tick_params(axis="x", rotation=30)
        axes.set_xlabel(printable(names[0]))
        axes.set_ylabel(printable(names[1]))
        bar = made.colorbar(image, ax=axes, pad=0.02)
        bar.outline.set_visible(False)
        counts = [each.n for each in stats.values() if each]
        mean = f"mean of {span(counts)} runs" if max(counts) > 1 else ""
        bar.set_label(label_with(metric, "in %" * is_fraction(metric), mean))
        if is_fraction(metric):
            bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")
        save(made, file)


def number_of(cell: Stat, stats: dict[Place, Stat | None], metric: Metric) -> str:
    """With its n where others are means of more runs."""
    text = f"{100 * cell.mean:.1f}" if is_fraction(metric) else f"{cell.mean:.3g}"
    most = max(each.n for each in stats.values() if each)
    return text if cell.n == most else f"{text}\n(n={cell.n})"


def short(value: Any) -> str:
    return cut(printable(settings.show(value)), 16)
