"""Pictures of an evaluation: the confusion matrix and the reliability diagram, as PNG bytes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from dltrain.interpret.report import Report

MAX_NUMBERS, MAX_LABELS = 20, 60  # classes, up to which cells and axes are written on
MAX_LABEL = 18  # characters
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"  # told apart by everyone (Okabe, Ito 2008)
MISSING = "pictures need matplotlib: pip install 'dltrain[plot]'"


def draw_confusion(confusion: np.ndarray, classes: Sequence[str], title: str) -> bytes:
    """PNG. Colours are shares of each row (of the samples of a class), numbers are samples."""
    from matplotlib.colors import Normalize, PowerNorm

    count = len(confusion)
    side = min(16.0, max(4.5, 2.2 + 0.42 * min(count, MAX_LABELS) + label_inches(classes)))
    figure = new_figure(side + 0.9, side)
    axes = figure.subplots()
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.nan_to_num(confusion / confusion.sum(1, keepdims=True))
    # Without numbers in them, faint cells have to be seen
    few = count <= MAX_NUMBERS
    norm = Normalize(0, 1) if few else PowerNorm(0.5, 0, 1)
    image = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    if few:
        for row, column in np.argwhere(confusion).tolist():
            color = "white" if shares[row, column] > 0.5 else "black"
            text = f"{confusion[row, column]:,}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    if count <= MAX_LABELS:
        labels = [plain(name) for name in classes]
        turned = max(map(len, labels)) > 2
        axes.set_xticks(range(count), labels, rotation=90 if turned else 0, fontsize=8)
        axes.set_yticks(range(count), labels, fontsize=8)
    axes.set_xlabel("predicted (numbers: samples)" if few else "predicted")
    axes.set_ylabel("true")
    lines = [plain(line, int(11 * side)) for line in title.split("\n")]
    axes.set_title("\n".join(lines), fontsize=10)
    scale = "share of the samples of the true class" + ("" if few else " (square-root scale)")
    figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03, label=scale)
    return png(figure)


def draw_reliability(report: Report, title: str) -> bytes:
    """PNG. Accuracy by bin of confidence, beside what a calibrated model has; samples below.

    A bin without samples is hatched: it is not one whose samples are all wrong, a line at 0.
    """
    figure = new_figure(5.4, 5.8)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = np.linspace(0, 1, len(report.bin_count) + 1)
    width, filled = edges[1], report.bin_count > 0
    middles, accuracy = edges[:-1] + width / 2, report.bin_accuracy[filled]
    upper.bar(middles[~filled], 1, width, color="white", edgecolor="#DDDDDD", hatch="///",
              linewidth=0, label="no samples")  # fmt: skip
    upper.bar(middles[filled], accuracy, width * 0.94, color=BLUE, label="accuracy")
    left, right = middles[filled] - width * 0.47, middles[filled] + width * 0.47
    upper.hlines(accuracy, left, right, color=BLUE, linewidth=2.5, capstyle="butt")
    upper.plot([0, 1], [0, 1], color=ORANGE, linewidth=1.2, linestyle="--", label="calibrated")
    upper.set_ylabel("accuracy")
    upper.set_ylim(-0.01, 1.01)
    lines = [plain(line, 52) for line in title.split("\n")]
    figure.suptitle("\n".join([*lines, f"ECE {report.calibration_error:.2%}"]), fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    lower.bar(middles[filled], report.bin_count[filled], width * 0.94, color=GREY)
    for middle, count in zip(middles[filled], report.bin_count[filled].tolist(), strict=True):
        lower.annotate(brief(count), (middle, count), (0, 1.5), textcoords="offset points",
                       ha="center", va="bottom", fontsize=6.5)  # fmt: skip
    lower.margins(y=0.2)
    lower.set_xlim(0, 1)
    lower.set_xlabel("confidence")
    lower.set_ylabel("samples")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def brief(count: int) -> str:
    """In at most five characters: `999`, `12.3k`, `1.2M`."""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if count >= unit:
            size = unit if name != "k" else 1000
            return f"{count / size:.3g}{name}"
    return str(count)


def new_figure(width: float, height: float) -> Any:
    """Without pyplot, which would look for a screen and keep every figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Any) -> bytes:
    """The same bytes for the same picture: no date and no version in it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class is named in a script that the font lacks
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()


def plain(text: str, limit: int = MAX_LABEL) -> str:
    """A stranger's text: printable, no formula (matplotlib reads `$`), and cut in the middle:
    long names of classes differ at either end."""
    end = (limit - 1) // 2
    short = text if len(text) <= limit else f"{text[: limit - 1 - end]}…{text[-end:]}"
    shown = "".join(c if c.isprintable() else "?" for c in short)
    return shown.replace("\\", "\\\\").replace("$", r"\$")


def label_inches(classes: Sequence[str]) -> float:
    longest = max((min(len(name), MAX_LABEL) for name in classes), default=0)
    return 0.075 * longest if len(classes) <= MAX_LABELS else 0.0
