"""What a loader gives, and how it comes to the device."""

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Samples on the device, as a task gets them.

    inputs: float32 [B, C, H, W] or [B, F], normalised. targets: int64 [B], or float32 [B, K]
    where samples are mixed: each class's share. index: int64 [B], the samples' places in the
    dataset.
    """

    inputs: Tensor
    targets: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """From host to GPU through pinned memory, so that the host does not wait for the copy."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class Sent(NamedTuple):
    """Columns of a batch on their way to a device, and when they will have arrived."""

    columns: tuple[Tensor, ...]
    arrived: torch.cuda.Event | None


class Lane:
    """The way of batches to a device, beside what it computes.

    On a GPU they are copied from pinned memory by a stream of their own, one batch ahead: the copy
    of the next one takes place while the model works on this one. On a CPU there is no way to go.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.num_ahead = 0 if self._stream is None else 1

    def send(self, *columns: Tensor) -> Sent:
        """Columns in host memory, on their way. On a GPU the host may write to them again."""
        if self._stream is None:
            return Sent(columns, None)
        with torch.cuda.stream(self._stream):
            return Sent(
                tuple(send(column, self._device) for column in columns),
                self._stream.record_event(),
            )

    def receive(self, sent: Sent) -> tuple[Tensor, ...]:
        """The columns, once what is computed from now on may use them."""
        if sent.arrived is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(sent.arrived)  # not for what was sent after them
            for column in sent.columns:  # the allocator must not give their memory away too early
                column.record_stream(current)
        return sent.columns


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
