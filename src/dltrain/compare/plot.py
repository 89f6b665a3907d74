"""Pictures of runs for a paper: curves with their spread, and the map of two settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dltrain.compare import settings
from dltrain.compare.columns import Column, Columns, percent
from dltrain.compare.curves import read_curves
from dltrain.compare.metrics import Metric, default_metrics
from dltrain.compare.run import Run
from dltrain.compare.smooth import Line, line_over
from dltrain.compare.table import Options, Stat, Table, make_table, order, stat
from dltrain.compare.text import cut, printable
from dltrain.errors import UserError

# Okabe and Ito, told apart by every kind of colour vision; without the yellow, which paper swallows
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
MAX_LINES = len(PALETTE) * len(DASHES)
MAX_LABEL = 48
MAX_CELLS = 40  # along one side of a map
SMOOTH_TRAINING = 0.6
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.labelsize": 10,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 6),
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "savefig.dpi": 200,
    "svg.hashsalt": "dltrain",  # the same runs, the same file
    "text.parse_math": False,  # a `$` in somebody's setting is a dollar
}


@contextmanager
def figure(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A figure of so many inches and its axes, without a window."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            f"--plot needs matplotlib, which does not import ({error})\npip install 'dltrain[plot]'"
        ) from None
    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=(width, height), layout="constrained")
        yield made, made.add_subplot()


def save(made: Any, file: Path) -> None:
    """Without the date, so that the same runs give the same file."""
    kinds = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    made.savefig(file, metadata=kinds.get(file.suffix.lower(), {}))


def label_of(metric: Metric) -> str:
    names = {"val": "validation", "train": "training", "test": "test"}
    return printable(f"{names[metric.split]} {metric.name.replace('_', ' ')}")


# ---------------------------------------------------------------------- curves


def plot_curves(
    found: Sequence[Run], options: Options, weight: float | None, file: Path
) -> list[str]:
    """A line a row of the table. Returns what is to be said of it.

    Raises UserError for more lines than can be told apart, and where no run has the metric.
    """
    table = make_table(found, options)
    metric = chosen_metric(found, options)
    if weight is None:
        weight = SMOOTH_TRAINING if metric.split == "train" else 0.0
    labels, notes = labels_of(table), []
    lines: list[Line] = []
    wanted = (metric.name, metric.split)
    for label, group in zip(labels, table.groups, strict=True):
        curves = []
        for run in group.runs:
            try:
                curves.append(read_curves(run.path, [wanted])[wanted])
            except UserError as error:
                notes.append(str(error))
        curves = [curve for curve in curves if curve.values]
        line = line_over(label, curves, weight)
        if line.steps:
            lines.append(line)
        last = max((curve.steps[-1] for curve in curves), default=0)
        if last > (line.steps[-1] if line.steps else 0):
            notes.append(f"{label}: not drawn where not all of its {line.n} runs have a value")
    if not lines:
        raise UserError(f"no run has {metric.key} in its metrics.jsonl")
    if len(lines) > MAX_LINES:
        raise UserError(
            f"{len(lines)} curves are more than the {MAX_LINES} that can be told apart\n"
            "--group seed joins runs, --where leaves some out"
        )
    spread = ""
    if options.group:
        counts = {line.n for line in lines}
        spread = f"mean ± std over {options.group}"
        spread += f", n = {counts.pop()}" if len(counts) == 1 else ""
        lines = [
            replace(each, label=f"{each.label} (n = {each.n})") for each in lines if counts
        ] or lines
    draw(lines, metric, weight, spread, file)
    return notes


def chosen_metric(found: Sequence[Run], options: Options) -> Metric:
    """The one that is drawn. Raises UserError for several."""
    columns = Columns(found, options.at)
    named = columns.metrics_typed(options.metrics) if options.metrics else []
    if len(named) > 1:
        raise UserError(f"--plot draws one metric; --metrics names {len(named)}")
    metrics = named or default_metrics(columns.found)
    if not metrics:
        raise UserError("no run has a metric yet")
    return metrics[0]


def labels_of(table: Table) -> list[str]:
    """What tells the lines apart: their settings, or the names of the runs where those do not."""
    shown = [i for i, column in enumerate(table.columns) if column.is_setting]
    texts = [
        ", ".join(f"{table.columns[i].heading[0]} {settings.show(row[i])}" for i in shown)  # type: ignore[arg-type]
        for row in table.rows
    ]
    if len(set(texts)) < len(texts) or "" in texts:
        texts = [group.runs[0].name for group in table.groups]
    return [cut(printable(text), MAX_LABEL) for text in texts]


def draw(lines: list[Line], metric: Metric, weight: float, spread: str, file: Path) -> None:
    has_legend = len(lines) > 1
    longest = max(len(spread), *(len(line.label) for line in lines))
    with figure(4.4 + has_legend * (0.35 + 0.062 * longest), max(2.9, 0.21 * len(lines))) as (
        made,
        axes,
    ):
        # In the legend as at the right end: the highest above
        for index, line in enumerate(sorted(lines, key=lambda line: -line.means[-1])):
            color = PALETTE[index % len(PALETTE)]
            style = DASHES[index // len(PALETTE)]
            marker = {"marker": "o", "markersize": 3} if len(line.steps) == 1 else {}
            axes.plot(line.steps, line.means, color=color, ls=style, label=line.label, **marker)
            if any(line.stds):
                low = [m - s for m, s in zip(line.means, line.stds, strict=True)]
                high = [m + s for m, s in zip(line.means, line.stds, strict=True)]
                axes.fill_between(line.steps, low, high, color=color, alpha=0.18, linewidth=0)
        axes.set_xlabel("step")
        averaged = f"\n(moving average, {weight:g})" if weight else ""
        axes.set_ylabel(label_of(metric) + averaged)
        axes.margins(x=0.01)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        if metric.name.startswith("accuracy"):
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
        if has_legend:
            made.legend(
                loc="outside right upper", title=printable(spread) or None, alignment="left"
            )
        elif spread:
            axes.set_title(spread, fontsize=8.5, loc="right", color="#444444")
        save(made, file)


# ---------------------------------------------------------------------- the map of two settings


def plot_heatmap(found: Sequence[Run], options: Options, keys: Sequence[str], file: Path) -> None:
    """The metric over two settings, averaged over `options.group`.

    Raises UserError where the runs differ in more than these.
    """
    columns = Columns(make_runs(found, options), options.at)
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
    metric = chosen_metric(found, options)
    column = columns.metric(metric)
    columns.load()
    cells: dict[tuple[Any, Any], list[float]] = {}
    for run in columns.found:
        value = column.get(run)
        if isinstance(value, int | float):
            cells.setdefault((run.settings.get(two[0]), run.settings.get(two[1])), []).append(value)
    across = sorted({x for x, _ in cells}, key=order)
    down = sorted({y for _, y in cells}, key=order)
    if not cells or max(len(across), len(down)) > MAX_CELLS:
        raise UserError(
            f"a map of {len(across)} by {len(down)} values cannot be drawn; 1 to {MAX_CELLS} can"
        )
    names = settings.short_names(two)
    stats = [[stat(cells.get((x, y), [])) for x in across] for y in down]
    draw_map(stats, (across, down), [names[key] for key in two], column, metric, file)


def make_runs(found: Sequence[Run], options: Options) -> list[Run]:
    table = make_table(found, Options(where=options.where))
    return [run for group in table.groups for run in group.runs]


def draw_map(
    stats: list[list[Stat | None]],
    values: tuple[list[Any], list[Any]],
    names: Sequence[str],
    column: Column,
    metric: Metric,
    file: Path,
) -> None:
    across, down = values
    numbers = [[each.mean if each else float("nan") for each in row] for row in stats]
    is_percent = column.show is percent
    with figure(1.9 + 0.62 * len(across), 1.5 + 0.42 * len(down)) as (made, axes):
        axes.grid(False)
        for side in axes.spines.values():
            side.set_visible(False)
        image = axes.imshow(numbers, cmap="viridis", aspect="auto", origin="lower")
        for (row, line), (low, high) in ((each, image.get_clim()) for each in enumerate(stats)):
            for at, cell in enumerate(line):
                if cell is None:
                    continue
                text = f"{100 * cell.mean:.1f}" if is_percent else f"{cell.mean:.3g}"
                bright = high > low and (cell.mean - low) / (high - low) > 0.6
                axes.text(at, row, text, ha="center", va="center", fontsize=8,
                          color="black" if bright else "white")  # fmt: skip
        axes.set_xticks(range(len(across)), [short(value) for value in across])
        axes.set_yticks(range(len(down)), [short(value) for value in down])
        axes.tick_params(length=0)
        axes.set_xlabel(printable(names[0]))
        axes.set_ylabel(printable(names[1]))
        kind = {"at": f"at step {metric.step}"}.get(metric.kind, metric.kind)
        kind = "" if metric.split == "test" else kind
        bar = made.colorbar(image, ax=axes, pad=0.02)
        bar.outline.set_visible(False)
        how = ", ".join(filter(None, [kind, "in %" * is_percent]))
        bar.set_label(f"{label_of(metric)}\n({how})" if how else label_of(metric))
        if is_percent:
            bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")
        save(made, file)


def short(value: Any) -> str:
    return cut(printable(settings.show(value)), 16)
