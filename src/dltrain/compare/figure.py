"""What every picture for a paper has in common: its style, its colours, how it is saved."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dltrain.compare.metrics import Metric
from dltrain.compare.table import Options, Table
from dltrain.compare.text import printable
from dltrain.durable import replace_bytes
from dltrain.errors import UserError

# Okabe and Ito, told apart by every kind of colour vision; without the yellow, which paper swallows
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#666666"
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
    "pdf.fonttype": 42,  # TrueType: publishers refuse matplotlib's Type 3
    "svg.fonttype": "none",  # text stays text, to be searched and edited
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
    """Whole or not at all, and without the date, so that the same runs give the same file."""
    kind = file.suffix.lower()
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    drawn = io.BytesIO()
    made.savefig(drawn, format=kind[1:], metadata=metadata.get(kind, {}))
    replace_bytes(file, drawn.getvalue(), sync=False)


def label_of(metric: Metric) -> str:
    names = {"val": "validation", "train": "training", "test": "test"}
    return printable(f"{names[metric.split]} {metric.name.replace('_', ' ')}")


def label_with(metric: Metric, *more: str) -> str:
    """`validation accuracy (best, mean of 3 runs)`; what is the last of all is not said."""
    kind = f"at step {metric.step}" if metric.kind == "at" else metric.kind
    kind = "" if metric.split == "test" and metric.kind == "last" else kind
    how = ", ".join(filter(None, [kind, *more]))
    return f"{label_of(metric)}\n({how})" if how else label_of(metric)


def with_counts(labels: Sequence[str], counts: Sequence[int], options: Options) -> list[str]:
    """Each with its n where the groups have different ones."""
    if not options.group or len(set(counts)) == 1:
        return list(labels)
    return [f"{label} (n = {n})" for label, n in zip(labels, counts, strict=True)]


def spread_in_words(over: str, counts: Sequence[int]) -> str:
    return f"mean ± sample std over {over}, n = {span(counts)}" if over else ""


def show_fraction(axis: Any) -> None:
    axis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")


def is_fraction(metric: Metric) -> bool:
    return metric.name.startswith("accuracy")


def drawn_metric(table: Table, options: Options) -> Metric:
    """The first of the table. Raises UserError where there is none, or several were typed."""
    if options.metrics and len(table.metrics) > 1:
        raise UserError(f"--plot draws one metric; --metrics names {len(table.metrics)}")
    if not table.metrics:
        raise UserError("no run has a metric yet")
    return table.metrics[0]


def span(counts: Sequence[int]) -> str:
    """`3`, or `2 to 3`."""
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"
