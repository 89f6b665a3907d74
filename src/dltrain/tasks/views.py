"""Test-time augmentation: the mean of what a model says of several views of each image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# model, inputs -> logits, float32 [B, K]
Predict = Callable[[nn.Module, Tensor], Tensor]


def predict_once(model: nn.Module, inputs: Tensor) -> Tensor:
    """The neutral element: the images as they are."""
    logits: Tensor = model(inputs).float()
    return logits


def predict_flipped(model: nn.Module, inputs: Tensor) -> Tensor:
    """The logarithm of the mean probability over each image and its mirror image."""
    return mean_over(model, mirrored(check_images(inputs), 1.0))


def predict_shifted(model: nn.Module, inputs: Tensor) -> Tensor:
    """The same, half of it from the images moved by a pixel: up and left, and down and right.

    Jordan 2024, airbench94_muon.py: infer_mirror_translate (a mean of logits there); six passes.
    """
    return mean_over(model, shifted(check_images(inputs)))


def mirrored(inputs: Tensor, weight: float) -> Iterator[tuple[Tensor, float]]:
    yield inputs, weight / 2
    yield inputs.flip(3), weight / 2


def shifted(inputs: Tensor) -> Iterator[tuple[Tensor, float]]:
    yield from mirrored(inputs, 0.5)
    height, width = inputs.shape[2:]
    padded = F.pad(inputs, (1, 1, 1, 1), mode="reflect")
    yield from mirrored(padded[:, :, :height, :width], 0.25)
    yield from mirrored(padded[:, :, 2:, 2:], 0.25)


def mean_over(model: nn.Module, views: Iterator[tuple[Tensor, float]]) -> Tensor:
    """One view at a time, so that memory is that of one."""
    terms = [
        F.log_softmax(model(inputs).float(), dim=1) + math.log(weight) for inputs, weight in views
    ]
    return torch.stack(terms).logsumexp(0)


def check_images(inputs: Tensor) -> Tensor:
    if inputs.dim() != 4 or min(inputs.shape[2:]) < 2:
        raise ValueError(
            f"task.views is for images of at least 2 x 2 pixels; these samples have the shape "
            f"{list(inputs.shape[1:])}. Choose task.views=none"
        )
    return inputs


VIEWS: dict[str, Predict] = {
    "none": predict_once,
    "flip": predict_flipped,
    "flip_shift": predict_shifted,
}
