"""A random part of an image, brought to a fixed size: how large images are seen in training."""

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from dltrain.data.boxes import check_pair, draw_place, draw_sizes
from dltrain.data.chunks import in_chunks, to_bytes
from dltrain.data.planes import like, to_planes
from dltrain.data.randomness import Draws


@runtime_checkable
class Framing(Protocol):
    """An augmentation that begins with a part of the image: a reader need make no more of it."""

    def frame(self, random: Draws, heights: Tensor, widths: Tensor) -> Tensor:
        """Top, left, height and width of the parts, int64 [n, 4], of images of these sizes [n]."""

    def check_size(self, image_shape: tuple[int, ...]) -> None:
        """Raises ValueError unless the parts are brought to the size of image_shape [C, H, W]."""


class RandomResizedCrop:
    """Cuts a part of random area and ratio out, and resizes it with antialiasing.

    size: height and width of the result, or one number for both; None is the image's own size.
    scale: the part's area as a part of the image's, uniform; ratio: its width to its height,
    log-uniform. Szegedy et al. 2015; as torchvision's RandomResizedCrop.
    """

    def __init__(
        self, *, size: int | Sequence[int] | None, scale: Sequence[float], ratio: Sequence[float]
    ) -> None:
        sides: list[Any] = list(size) if isinstance(size, Sequence) else [size] * 2
        fair = all(type(side) is int and 1 <= side <= 4096 for side in sides)
        if size is not None and not (fair and len(sides) == 2):
            raise ValueError(
                f"size is {size!r}; it must be a whole number of pixels from 1 to 4096, two of "
                "them for height and width, or null for the size of the images"
            )
        check_pair("scale", scale, 0, 1)
        check_pair("ratio", ratio, 0, 1000)
        self.size = None if size is None else tuple(sides)
        self.scale, self.ratio = scale, ratio

    def draw(self, random: Draws, image_shape: tuple[int, ...]) -> Tensor:
        """int64 [n, 4]: top, left, height and width of the parts."""
        one = torch.ones_like(random.bits(0))
        return self.frame(random, image_shape[1] * one, image_shape[2] * one)

    def frame(self, random: Draws, heights: Tensor, widths: Tensor) -> Tensor:
        heights, widths = heights.long(), widths.long()
        wide, tall, found = draw_sizes(
            random,
            heights * widths,
            self.scale,
            self.ratio,
            first_draw=2,
            fits=lambda wide, tall: (wide > 0) & (wide <= widths) & (tall > 0) & (tall <= heights),
        )
        top, left = draw_place(random, 0, heights - tall), draw_place(random, 1, widths - wide)
        boxes = torch.stack([top, left, tall, wide], dim=1)
        return torch.where(found[:, None], boxes, self._central(heights, widths))

    def _central(self, heights: Tensor, widths: Tensor) -> Tensor:
        """Where ten tries found nothing: the largest part in the middle that has a fair ratio."""
        ratios, (low, high) = widths.double() / heights.double(), self.ratio
        tall = torch.where(ratios < low, (widths.double() / low).round().long(), heights)
        wide = torch.where(ratios > high, (heights.double() * high).round().long(), widths)
        return torch.stack([(heights - tall) // 2, (widths - wide) // 2, tall, wide], dim=1)

    def check_size(self, image_shape: tuple[int, ...]) -> None:
        if self.size not in (None, tuple(image_shape[1:])):
            raise ValueError(
                f"size is {list(self.size or ())}, but this dataset gives images of "
                f"{list(image_shape[1:])}; choose size=null, and the size by dataset.size"
            )

    def __call__(self, inputs: Tensor, draws: Tensor) -> Tensor:
        old_height, old_width = inputs.shape[2:]
        height, width = self.size or (old_height, old_width)
        top, left, tall, wide = draws.unbind(1)
        columns = _taps(left, wide, old_width, width)
        rows = _taps(top, tall, old_height, height)
        return in_chunks(_resize, inputs, *columns, *rows)


def _resize(
    images: Tensor, columns: Tensor, column_weights: Tensor, rows: Tensor, row_weights: Tensor
) -> Tensor:
    # Rows of bytes are gathered far faster than single ones: the image is laid on its side, its
    # columns are made, and it is put up again.
    lying = _weigh_rows(to_planes(images).transpose(2, 3).contiguous(), columns, column_weights)
    return like(images, _weigh_rows(lying.transpose(2, 3).contiguous(), rows, row_weights))


def _weigh_rows(images: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """New rows of uint8 [n, C, H, W], each the weighted mean of some; see `_taps`."""
    num_images, channels, height, width = images.shape
    rows, size = images.view(num_images * channels * height, width), places.shape[2]
    starts = height * torch.arange(num_images * channels, device=images.device)
    index = places[:, None] + starts.view(num_images, channels, 1, 1)  # [n, C, K, size]
    means: Tensor | float = 0.5  # rounds to the nearest
    for index_of_tap, weight in zip(index.unbind(2), weights.unbind(1), strict=True):
        taken = rows.index_select(0, index_of_tap.reshape(-1))
        part = taken.view(num_images, channels, size, width) * weight[:, None, :, None]
        means = part.add_(means)
    assert isinstance(means, Tensor)
    return to_bytes(means)


def _taps(start: Tensor, length: Tensor, side: int, size: int) -> tuple[Tensor, Tensor]:
    """Which rows of `side` are read for each of `size` new ones, and with which weights.

    Read are those from start on, as many as length, int64 [n]. A weight falls with the distance:
    as in bilinear interpolation where rows become more, and more slowly where they become fewer.

    int64 [n, K, size] in [0, side), and float32 [n, K, size].
    """
    scale = length.double()[:, None] / size
    reach = scale.clamp(min=1)
    centre = (torch.arange(size, device=length.device) + 0.5) * scale
    begin = (centre - reach + 0.5).floor().clamp(min=0)
    end = torch.minimum((centre + reach + 0.5).floor(), length[:, None])
    num_taps = 2 if side <= size else 2 * math.ceil(side / size) + 1
    taps = [begin + number for number in range(num_taps)]
    near = [(1 - (tap - centre + 0.5).abs() / reach).clamp(min=0) * (tap < end) for tap in taps]
    weights = torch.stack(near, 1) / sum(near[1:], near[0])[:, None]
    # Multiples of 2**-14 to 2**-16: a sum of products with bytes is then exact in float32, in
    # whatever order it is made. Which of them is torch's choice for uint8 on a CPU.
    largest = weights.amax((1, 2), keepdim=True)
    unit = 2.0 ** (14 + (largest < 1).double() + (largest < 0.5).double())
    places = torch.minimum(torch.stack(taps, 1), end[:, None] - 1).long() + start[:, None, None]
    return places, ((weights * unit).round() / unit).float()
