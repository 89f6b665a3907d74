"""The worst mistakes of an evaluation: samples that a model was surest to be something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mistakes:
    """The worst first. inputs: as the model saw them. The probabilities: of the true class and of
    the predicted one. index: places in the split."""

    inputs: Tensor
    labels: list[int]
    predictions: list[int]
    label_probabilities: list[float]
    probabilities: list[float]
    index: list[int]


class WorstMistakes:
    """Keeps the `limit` wrong predictions that are furthest above the truth, on the device.

    What makes one worse is log p(prediction) - log p(label). A handful of operations a batch, no
    waiting for the device, and memory for `limit` samples beside a batch.
    """

    def __init__(self, limit: int = 25) -> None:
        self.limit = limit
        self._kept: tuple[Tensor, ...] | None = None

    def add(self, logits: Tensor, batch: Any) -> None:
        """logits: [B, K]. batch: `inputs`, `targets` (labels in [0, K)) and `index`."""
        log_p = logits.float().log_softmax(1)
        top, predictions = log_p.amax(1), logits.argmax(1)
        own = log_p.gather(1, batch.targets[:, None]).squeeze(1)
        margin = torch.where(predictions == batch.targets, -torch.inf, top - own)
        margin = margin.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        place = margin.topk(min(self.limit, len(margin))).indices
        columns = (margin, batch.inputs, batch.targets, predictions, own, top, batch.index)
        best = tuple(column.detach()[place] for column in columns)
        if self._kept is not None:
            best = tuple(torch.cat(pair) for pair in zip(self._kept, best, strict=True))
            place = best[0].topk(min(self.limit, len(best[0]))).indices
            best = tuple(column[place] for column in best)
        self._kept = best

    def read(self) -> Mistakes | None:
        """None where everything was right."""
        if self._kept is None:
            return None
        margin, *columns = (column.cpu() for column in self._kept)
        found = margin > -torch.inf
        if not found.any():
            return None
        inputs, labels, predictions, own, top, index = (column[found] for column in columns)
        return Mistakes(
            inputs=inputs,
            labels=labels.tolist(),
            predictions=predictions.tolist(),
            label_probabilities=own.exp().tolist(),
            probabilities=top.exp().tolist(),
            index=index.tolist(),
        )
