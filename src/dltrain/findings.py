"""What a run's last evaluation shows beside its metrics: mistakes, confusions, PR curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

MAX_NAME = 11  # characters, below a picture
MAX_CURVES = 20  # classes with a curve of their own: those of least average precision


@dataclass(frozen=True)
class Findings:
    """By the tag under which they are logged. Pictures: uint8 [H, W, C]; curves: [6, T]."""

    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    pr_curves: dict[str, np.ndarray] = field(default_factory=dict)


class Watched:
    """A task that shows its logits while it is evaluated: its sums are those of the task itself.

    counters: called as counter(logits, batch).
    """

    def __init__(self, task: Any, *counters: Callable[[Tensor, Any], None]) -> None:
        self.task, self.counters = task, counters

    def evaluate(self, model: Any, batch: Any) -> dict[str, Tensor]:
        logits = self.task.predict(model, batch.inputs)
        for count in self.counters:
            count(logits, batch)
        sums: dict[str, Tensor] = self.task.evaluation_sums(logits, batch.targets)
        return sums


class Examined(Watched):
    """A task that is looked at for `Findings`.

    Counted on the device, read once, in `read`; memory does not grow with the number of samples.
    """

    def __init__(self, task: Any) -> None:
        from dltrain.interpret.mistakes import WorstMistakes
        from dltrain.interpret.pr_curves import ProbabilityCounts
        from dltrain.interpret.tally import Tally

        self.tally, self.mistakes = Tally(), WorstMistakes()
        self.probabilities = ProbabilityCounts()
        self.num_samples = 0
        super().__init__(task, self.count)

    def count(self, logits: Tensor, batch: Any) -> None:
        self.tally.add(logits, batch.targets)
        self.mistakes.add(logits, batch)
        self.probabilities.add(logits, batch.targets)
        self.num_samples += len(batch.targets)

    def read(self, split: str, dataset: Any) -> Findings:
        """`dataset`: its mean and std, and the names of its classes if it knows them."""
        if not self.num_samples:
            return Findings()
        classes = class_names(dataset, self.probabilities.num_classes)
        pictures = draw_mistakes(self.mistakes.read(), split, dataset, classes)
        confusion = self.tally.read().get("confusion")
        if confusion is not None:
            from dltrain.interpret.pictures import confusion_sheet

            matrix = confusion.numpy().astype("int64")
            pictures[f"confusion/{split}"] = confusion_sheet(matrix, classes)
        return Findings(pictures, draw_curves(self.probabilities.read(), split, classes))


def can_be_examined(task: Any) -> bool:
    return hasattr(task, "predict") and hasattr(task, "evaluation_sums")


def class_names(dataset: Any, count: int) -> list[str]:
    """A name for each logit; numbers where the dataset has none."""
    names = [str(name) for name in getattr(dataset, "classes", None) or ()][:count]
    return [*names, *map(str, range(len(names), count))]


def is_pictures(inputs: Tensor) -> bool:
    return inputs.dim() == 4 and inputs.shape[1] in (1, 3)


def as_pixels(inputs: Tensor, dataset: Any) -> np.ndarray:
    """Normalised [N, C, H, W] -> uint8 [N, H, W, C], as they were before."""
    pixels = inputs.float().cpu().permute(0, 2, 3, 1).numpy()
    whole: np.ndarray = ((pixels * dataset.std + dataset.mean) * 255).round().clip(0, 255)
    return whole.astype("uint8")


def draw_mistakes(
    mistakes: Any, split: str, dataset: Any, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    if mistakes is None or not is_pictures(mistakes.inputs):
        return {}
    from dltrain.interpret import pictures

    columns = (
        mistakes.labels, mistakes.label_probabilities, mistakes.predictions, mistakes.probabilities,
    )  # fmt: skip
    captions = [
        (
            f"true {short(classes[label])}, {own:.0%}",
            f"said {short(classes[prediction])}, {top:.0%}",
        )
        for label, own, prediction, top in zip(*columns, strict=True)
    ]
    pixels = as_pixels(mistakes.inputs, dataset)
    return {f"mistakes/{split}": pictures.draw_mistakes(pixels, captions)}


def short(name: str) -> str:
    """So that the probability behind it stays on the line."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def draw_curves(counts: np.ndarray, split: str, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """All classes together, and each; of many, those of least average precision."""
    from dltrain.interpret.pr_curves import average_precision, curve

    wrong, right = counts
    curves = {f"pr_curves_{split}/all classes": curve(wrong.sum(0), right.sum(0))}
    own = [(label, curve(wrong[label], right[label])) for label in range(len(wrong))]
    own = [(label, each) for label, each in own if each[0, 0] > 0] if len(wrong) > 1 else []
    chosen = sorted(own, key=lambda pair: average_precision(pair[1]))[:MAX_CURVES]
    in_order = sorted(chosen, key=lambda pair: pair[0])
    for label, each in in_order:
        tag = f"pr_curves_{split}/{classes[label]}"
        curves[tag if tag not in curves else f"{tag} ({label})"] = each  # names may be the same
    return curves
