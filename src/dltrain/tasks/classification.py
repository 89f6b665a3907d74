"""Classification: cross-entropy, and the counts that accuracies are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.tasks.views import VIEWS


class Classification:
    """One label in [0, num_classes) a sample, or a share of each class; logits are [B, K].

    views: what of each image is looked at when it is evaluated: `none`, the image alone; `flip`,
    its mirror image too; `flip_shift`, also both moved by a pixel. Predictions, and the loss, are
    those of the mean probabilities; see `dltrain.tasks.views`.

    Gives sums and counts, never means of means: whoever adds them up over micro-batches, uneven
    batches and processes gets the exact metric of the whole.
    """

    def __init__(
        self, *, num_classes: int, label_smoothing: float = 0.0, views: str = "none"
    ) -> None:
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"task.label_smoothing is {label_smoothing}; it must be >= 0 and < 1")
        if views not in VIEWS:
            raise ValueError(f"task.views is {views!r}; it must be one of {', '.join(VIEWS)}")
        self.predict = VIEWS[views]
        self.label_smoothing = label_smoothing
        self.top = 5 if num_classes > 5 else None  # top-5 of five classes says nothing
        self.metrics: dict[str, tuple[str, ...]] = {
            "train": ("loss", "accuracy"),
            "val": ("loss", "accuracy"),
        }
        if self.top is not None:
            self.metrics["val"] += (f"accuracy_top{self.top}",)

    def train(self, model: nn.Module, batch: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mean loss over the batch, and per-sample tensors for `train_sums`."""
        logits = model(batch.inputs)
        loss = F.cross_entropy(logits, batch.targets, label_smoothing=self.label_smoothing)
        # 2 us a step; comparing and counting wait for `train_sums`, once for many batches
        return loss, (logits.argmax(1), labels_of(batch.targets))

    @staticmethod
    def stacked_losses(
        tasks: Sequence[Classification], logits: Tensor, targets: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What `train` gives of M models at once, each with its own smoothing: losses [M], records.

        logits: [M, B, K]; targets: int64 [M, B], or shares [M, B, K]. Records are [M, B].
        """
        logits, labels = logits.float(), labels_of(targets.flatten(0, 1)).view(targets.shape[:2])
        smoothing = [task.label_smoothing for task in tasks]
        if targets.dim() == 2 and not any(smoothing):
            flat = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            return flat.view(targets.shape).mean(1), (logits.argmax(2), labels)
        log_probabilities = F.log_softmax(logits, dim=2)
        soft = logits.new_tensor(smoothing)[:, None]
        if targets.dim() == 2:
            own = log_probabilities.gather(2, targets.unsqueeze(2)).squeeze(2)
        else:
            own = (log_probabilities * targets).sum(2)
        losses = -torch.lerp(own, log_probabilities.mean(2), soft)
        return losses.mean(1), (logits.argmax(2), labels)

    def train_sums(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Sums over the samples of many batches, concatenated: here, how many were right."""
        return {"accuracy": (predictions == targets).sum()}

    def evaluate(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Sums over one batch, `loss` among them (float64)."""
        return self.evaluation_sums(self.predict(model, batch.inputs), batch.targets)

    def evaluation_sums(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The same of what `predict` has given: for those who want to see that, too."""
        losses = F.cross_entropy(
            logits, targets, label_smoothing=self.label_smoothing, reduction="none"
        )
        sums = {"loss": losses.double().sum(), "accuracy": (logits.argmax(1) == targets).sum()}
        if self.top is not None:
            best = logits.topk(self.top, dim=1).indices
            sums[f"accuracy_top{self.top}"] = (best == targets[:, None]).any(1).sum()
        return sums


def labels_of(targets: Tensor) -> Tensor:
    """int64 [B]: the labels, or of shares [B, K] the classes that have most."""
    return targets if targets.dim() == 1 else targets.argmax(1)
