"""uint8 or float32 samples to float32 with about zero mean and unit variance by channel."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dltrain.data.kept import Kept

_IN_CACHE = 1 << 19  # values


class Normalise:
    """(x / unit - mean) / std by channel, as one multiplication and one addition.

    `unit` is the value that counts as 1: 255 for images of uint8, so that mean and std are those
    that torchvision's ToTensor and Normalize take. mean and std hold one number for each channel
    (the first dimension of sample_shape), or one for all.

    Both operations round for themselves (no fused multiply-add), so that a sample's values do not
    depend on the batch, the chunk or the thread that it falls into.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        sample_shape: Sequence[int],
        unit: float,
        device: torch.device,
    ) -> None:
        self._sample_shape = tuple(sample_shape)
        mean_C = _by_channel(mean, "mean", self._sample_shape[0])
        std_C = _by_channel(std, "std", self._sample_shape[0])
        if not bool((std_C > 0).all()):
            raise ValueError(f"std is {list(std)}; every number must be > 0")
        # A row for a whole sample, for each order of its values in memory: an inner loop over
        # three channels would cost more than the arithmetic.
        self._channels_first = _both_rows(mean_C, std_C, self._sample_shape, unit, device)
        self._kept = Kept()
        self._channels_last = tuple(
            row.view(self._sample_shape).movedim(0, -1).reshape(-1) for row in self._channels_first
        )

    def __call__(self, samples: Tensor) -> Tensor:
        """[n, *sample_shape] of any type -> float32 of the same shape and memory format."""
        if samples.is_contiguous():
            return self._rows(samples, self._channels_first).view(samples.shape)
        channels_last = samples.movedim(1, -1)
        if not channels_last.is_contiguous():
            return self(samples.contiguous())
        rows = self._rows(channels_last, self._channels_last)
        return rows.view(channels_last.shape).movedim(-1, 1)

    def _rows(self, samples: Tensor, scale_and_shift: tuple[Tensor, ...]) -> Tensor:
        scale, shift = scale_and_shift
        rows = samples.view(len(samples), len(scale))  # no -1: there may be no sample
        result = self._kept.empty(len(rows), len(scale), rows.device)
        # On a CPU, in parts that stay in its cache; a GPU takes all at once
        at_once = len(rows) if result.is_cuda else max(1, _IN_CACHE // len(scale))
        for part, of in zip(
            result.split(max(1, at_once)), rows.split(max(1, at_once)), strict=True
        ):
            part.copy_(of).mul_(scale).add_(shift)
        return result


def _by_channel(values: Sequence[float], name: str, num_channels: int) -> Tensor:
    """float64 [num_channels]."""
    if len(values) not in (1, num_channels):
        raise ValueError(
            f"{name} has {len(values)} numbers; it must have one for each of the {num_channels} "
            "channels of dataset.image_shape, or one for all"
        )
    tensor = torch.tensor([float(value) for value in values], dtype=torch.float64)
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} is {list(values)}; every number must be finite")
    return tensor.expand(num_channels)


def _both_rows(
    mean_C: Tensor, std_C: Tensor, sample_shape: tuple[int, ...], unit: float, device: torch.device
) -> tuple[Tensor, ...]:
    """Scale and shift of every value of a sample, channels first, computed in float64."""
    per_channel = (1 / (unit * std_C), -mean_C / std_C)
    column = (-1,) + (1,) * (len(sample_shape) - 1)
    return tuple(
        values.view(column).expand(sample_shape).reshape(-1).to(device, torch.float32)
        for values in per_channel
    )
