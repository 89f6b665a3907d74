"""A random part of an image, brought to a fixed size: how large images are seen in training."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dltrain.data.boxes import check_pair, draw_place, draw_sizes
from dltrain.data.planes import like, to_planes
from dltrain.data.randomness import Draws


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
        height, width = image_shape[1:]
        wide, tall, found = draw_sizes(
            random,
            height * width,
            self.scale,
            self.ratio,
            first_draw=2,
            fits=lambda wide, tall: (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height),
        )
        top, left = draw_place(random, 0, height - tall), draw_place(random, 1, width - wide)
        boxes = torch.stack([top, left, tall, wide], dim=1)
        centre = torch.tensor(self._central(height, width), device=boxes.device)
        return torch.where(found[:, None], boxes, centre)

    def _central(self, height: int, width: int) -> list[int]:
        """Where ten tries found nothing: the largest part in the middle that has a fair ratio."""
        tall, wide = height, width
        if width / height < self.ratio[0]:
            tall = round(width / self.ratio[0])
        elif width / height > self.ratio[1]:
            wide = round(height * self.ratio[1])
        return [(height - tall) // 2, (width - wide) // 2, tall, wide]

    def __call__(self, inputs: Tensor, draws: Tensor) -> Tensor:
        height, width = self.size or inputs.shape[2:]
        top, left, tall, wide = draws.unbind(1)
        # Rows of bytes are gathered far faster than single ones: the image is laid on its side,
        # its columns are made, and it is put up again.
        columns = to_planes(inputs).transpose(2, 3).contiguous()
        columns = _resize_rows(columns, left, wide, width)
        return like(inputs, _resize_rows(columns.transpose(2, 3).contiguous(), top, tall, height))


def _resize_rows(images: Tensor, start: Tensor, length: Tensor, size: int) -> Tensor:
    """The rows from start on, as many as length, of uint8 [n, C, H, W] -> uint8 [n, C, size, W].

    Each new row is a mean of old ones, weighted by a triangle: those of bilinear interpolation
    where there are fewer, and a wider one where there are more.
    """
    num_images, channels, height, width = images.shape
    rows = images.view(-1, width)
    first_row = height * torch.arange(num_images * channels, device=images.device)[:, None]
    total = torch.full((1, 1, 1, 1), 0.5, device=images.device)  # rounds to the nearest
    for place, weight in _taps(length, size, math.ceil(height / size)):
        index = (start[:, None] + place).repeat_interleave(channels, dim=0) + first_row
        taken = rows.index_select(0, index.view(-1)).view(num_images, channels, size, width)
        total = total + taken * weight[:, None, :, None]
    return total.to(torch.uint8)


def _taps(length: Tensor, size: int, most: int) -> list[tuple[Tensor, Tensor]]:
    """Which rows of a part of length rows, and with which weight, make each of size rows.

    (int64 [n, size] in [0, length), float32 [n, size] of sum 1) for each of at most 2 * most + 1.
    """
    scale = length.double()[:, None] / size
    reach = scale.clamp(min=1)
    centre = (torch.arange(size, device=length.device) + 0.5) * scale
    begin = (centre - reach + 0.5).floor().clamp(min=0)
    end = torch.minimum((centre + reach + 0.5).floor(), length[:, None])
    places = [begin + number for number in range(2 if most == 1 else 2 * most + 1)]
    weights = [
        (1 - (place - centre + 0.5).abs() / reach).clamp(min=0) * (place < end) for place in places
    ]
    total = sum(weights[1:], weights[0])
    weights = [weight / total for weight in weights]
    # Multiples of 2**-14 to 2**-16: a sum of products with bytes is then exact in float32, in
    # whatever order it is made. Which of them is torch's choice for uint8 on a CPU.
    largest = torch.stack(weights).amax((0, 2))[:, None]
    unit = 2.0 ** (14 + (largest < 1).double() + (largest < 0.5).double())
    return [
        (torch.minimum(place, end - 1).long(), ((weight * unit).round() / unit).float())
        for place, weight in zip(places, weights, strict=True)
    ]
