"""What an evaluation counts beside its metrics: who was taken for whom, and how sure it was."""

from __future__ import annotations

import torch
from torch import Tensor

NUM_BINS = 15
MAX_CLASSES = 2048  # of a confusion matrix: 32 MB; beyond, counts by class alone


class Tally:
    """Exact counts over batches of logits, added on their device and read once, at the end.

    Confidence is the largest probability; its bins are NUM_BINS of equal width, ((i - 1) / 15,
    i / 15], as in Guo et al. 2017 (On Calibration of Modern Neural Networks, section 2). One that
    is NaN is in the first, whose sum then is NaN. The prediction is that of the accuracy.
    """

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """logits: [B, K], any that softmax takes. targets: int64 [B], labels in [0, K)."""
        num_classes = logits.shape[1]
        predictions = logits.argmax(1)  # probabilities may tie where logits do not
        confidence = logits.double().softmax(1).amax(1)
        right = (predictions == targets).double()
        place = (confidence.nan_to_num(0.0) * NUM_BINS).ceil().long().sub(1).clamp(0, NUM_BINS - 1)
        one = torch.ones_like(confidence)
        self._count("support", num_classes, targets, one)
        self._count("predicted", num_classes, predictions, one)
        self._count("right", num_classes, targets, right)
        self._count("bin_count", NUM_BINS, place, one)
        self._count("bin_confidence", NUM_BINS, place, confidence)
        self._count("bin_right", NUM_BINS, place, right)
        if num_classes <= MAX_CLASSES:
            self._count("confusion", num_classes**2, targets * num_classes + predictions, one)

    def _count(self, name: str, length: int, index: Tensor, amounts: Tensor) -> None:
        """torch.bincount would wait for the device, and is not deterministic with weights."""
        if name not in self._totals:
            self._totals[name] = amounts.new_zeros(length)
        self._totals[name].index_add_(0, index, amounts)

    def read(self) -> dict[str, Tensor]:
        """The sums on the CPU, `confusion` [K, K] (rows: the truth) where K is not too large."""
        parts = torch.cat(list(self._totals.values())).cpu()  # one wait
        sizes = [len(total) for total in self._totals.values()]
        found = dict(zip(self._totals, parts.split(sizes), strict=True))
        if "confusion" in found:
            num_classes = len(found["support"])
            found["confusion"] = found["confusion"].view(num_classes, num_classes)
        return found
