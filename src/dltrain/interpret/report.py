"""Counts of an evaluation -> precision, recall, F1 and calibration, in plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Report:
    """Arrays by class [K] and by bin of confidence; NaN where there is nothing to divide by.

    confusion: int64 [K, K], rows are the truth; None of more classes than are counted in pairs.
    """

    support: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    bin_count: np.ndarray
    bin_confidence: np.ndarray
    bin_accuracy: np.ndarray
    confusion: np.ndarray | None

    @property
    def metrics(self) -> dict[str, float]:
        """Unweighted means over the classes that have samples, and the calibration error.

        A class that is never predicted has a precision of 0 in the mean, as in scikit-learn.
        """
        seen = self.support > 0
        means = {
            f"{name}_macro": float(np.nan_to_num(getattr(self, name))[seen].mean())
            for name in ("precision", "recall", "f1")
        }
        return means | {"ece": self.calibration_error}

    @property
    def calibration_error(self) -> float:
        """ECE: |accuracy - confidence| of the bins, weighted by their samples (Guo et al. 2017).
        NaN where a confidence is."""
        filled = self.bin_count > 0
        gaps = np.abs(self.bin_accuracy - self.bin_confidence)[filled]
        return float((gaps * self.bin_count[filled]).sum() / max(1, self.bin_count.sum()))

    def most_confused(self, limit: int) -> list[tuple[int, int, int]]:
        """(truth, prediction, samples) of the most frequent mistakes; none without `confusion`."""
        if self.confusion is None:
            return []
        mistakes = self.confusion.copy()
        np.fill_diagonal(mistakes, 0)
        order = np.argsort(-mistakes, axis=None, kind="stable")[:limit]
        pairs = ((int(place) // len(mistakes), int(place) % len(mistakes)) for place in order)
        return [(*pair, int(mistakes[pair])) for pair in pairs if mistakes[pair]]


def make_report(sums: dict[str, Any]) -> Report:
    """From what `Tally.read` gives."""
    counts = {name: np.asarray(value, np.float64) for name, value in sums.items()}
    support, predicted, right = (counts[name] for name in ("support", "predicted", "right"))
    confusion = counts.get("confusion")
    with np.errstate(invalid="ignore", divide="ignore"):
        return Report(
            support=support.astype(np.int64),
            precision=right / predicted,
            recall=right / support,
            f1=2 * right / (support + predicted),
            bin_count=counts["bin_count"].astype(np.int64),
            bin_confidence=counts["bin_confidence"] / counts["bin_count"],
            bin_accuracy=counts["bin_right"] / counts["bin_count"],
            confusion=None if confusion is None else confusion.astype(np.int64),
        )
