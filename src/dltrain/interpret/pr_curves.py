"""Precision and recall of each class over all thresholds, from histograms of probabilities."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

NUM_THRESHOLDS = 201  # 0, 0.005, ..., 1, as TensorBoard's own summary
MAX_CLASSES = 2048  # 7 MB of counts; beyond, only all classes together
MIN_COUNT = 1e-7


class ProbabilityCounts:
    """How often each probability was given to each class, rightly and wrongly.

    Exact counts in bins of 1 / 200, added on the device: memory does not grow with the samples.
    """

    def __init__(self) -> None:
        self._counts: Tensor | None = None  # int64 [2, K or 1, T]: wrong, right
        self.num_classes = 0

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """logits: [B, K]. targets: labels in [0, K)."""
        num_classes = logits.shape[1]
        rows = num_classes if num_classes <= MAX_CLASSES else 1
        if self._counts is None:
            self.num_classes = num_classes
            self._counts = targets.new_zeros(2 * rows * NUM_THRESHOLDS)
        place = (logits.float().softmax(1).nan_to_num(0.0) * (NUM_THRESHOLDS - 1)).long()  # [B, K]
        if rows > 1:
            place += torch.arange(num_classes, device=place.device) * NUM_THRESHOLDS
        right = place.gather(1, targets[:, None]).flatten()
        half = rows * NUM_THRESHOLDS
        one = torch.ones(1, dtype=torch.int64, device=place.device)
        # Everything counts as wrong first; what was right moves over
        self._counts.index_add_(0, place.flatten(), one.expand(place.numel()))
        self._counts.index_add_(0, right, -one.expand(len(right)))
        self._counts.index_add_(0, right + half, one.expand(len(right)))

    def read(self) -> np.ndarray:
        """int64 [2, K, T]: how many samples of another class, and of this one, fell into each bin.
        Of too many classes, K is 1: all of them."""
        assert self._counts is not None
        return self._counts.cpu().numpy().reshape(2, -1, NUM_THRESHOLDS)


def curve(wrong: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Histograms [T] -> float64 [6, T]: true and false positives, true and false negatives,
    precision, recall at each threshold (tensorboard/plugins/pr_curve/summary.py)."""
    true_positives = right[::-1].cumsum()[::-1].astype(np.float64)
    false_positives = wrong[::-1].cumsum()[::-1].astype(np.float64)
    true_negatives = false_positives[0] - false_positives
    false_negatives = true_positives[0] - true_positives
    precision = true_positives / np.maximum(MIN_COUNT, true_positives + false_positives)
    recall = true_positives / np.maximum(MIN_COUNT, true_positives + false_negatives)
    rows = (true_positives, false_positives, true_negatives, false_negatives, precision, recall)
    return np.stack(rows)


def average_precision(counts: np.ndarray) -> float:
    """The area below a `curve`, as scikit-learn's: the sum of (R_n - R_{n-1}) P_n."""
    precision, recall = counts[4], counts[5]
    return float(-(np.diff(recall, append=0.0) * precision).sum())
