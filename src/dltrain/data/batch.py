"""What a loader gives, and how it comes to the device."""

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Samples on the device, as a task gets them.

    inputs: float32 [B, C, H, W] or [B, F], normalised. targets: int64 [B]. index: int64 [B], the
    samples' places in the dataset.
    """

    inputs: Tensor
    targets: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """From host to GPU through pinned memory, so that the host does not wait for the copy."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def check_samples(
    shape: tuple[int, ...], dtype: torch.dtype, targets: Tensor, *, augmented: bool
) -> None:
    """Raises ValueError unless they can be batches; `shape` is that of all samples together."""
    if dtype not in (torch.uint8, torch.float32) or len(shape) < 2 or 0 in shape:
        raise ValueError(
            f"inputs are {dtype} of shape {list(shape)}; they must be uint8 or "
            "float32 of shape [N, C, H, W] or [N, F], and not empty"
        )
    if targets.dtype != torch.int64 or targets.shape != shape[:1]:
        raise ValueError(
            f"targets are {targets.dtype} of shape {list(targets.shape)}; they must be int64 of "
            f"shape [{shape[0]}], one for each input"
        )
    if augmented and (dtype != torch.uint8 or len(shape) != 4):
        raise ValueError(
            f"augmentation is for images, uint8 [N, C, H, W]; this dataset has {dtype} of "
            f"shape {list(shape)}. Choose augmentation=none"
        )
