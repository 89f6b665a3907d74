"""Parts of a picture are taken away: a square of fixed size, or any rectangle."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dltrain.data.boxes import check_pair, draw_place, draw_sizes, fill_boxes
from dltrain.data.length import check_length, in_pixels
from dltrain.data.randomness import Draws


class Cutout:
    """A black square whose centre is any pixel, so that up to three quarters may lie outside.

    size: its side in pixels, or as a part of the image's shorter side. DeVries & Taylor 2017
    (16 pixels for CIFAR-10, 8 for CIFAR-100).
    """

    def __init__(self, *, size: int | float) -> None:
        check_length("size", size)
        self.size = size

    def draw(self, random: Draws, image_shape: tuple[int, ...]) -> Tensor:
        """int64 [n, 4]: top, left, height, width; the box may reach over the border."""
        height, width = image_shape[1:]
        size = in_pixels(self.size, min(height, width))
        top, left = random.integers(0, height) - size // 2, random.integers(1, width) - size // 2
        side = torch.full_like(top, size)
        return torch.stack([top, left, side, side], dim=1)

    def __call__(self, inputs: Tensor, draws: Tensor) -> Tensor:
        return fill_boxes(inputs, draws, [0])


class Erase:
    """With the given probability, a rectangle anywhere in the image is painted over.

    scale: its area as a part of the image's, uniform; ratio: its height to its width, log-uniform;
    value: its colour, one number from 0 to 255, or one for each channel. Zhong et al. 2017; as
    torchvision's RandomErasing.
    """

    def __init__(
        self,
        *,
        probability: float,
        scale: Sequence[float],
        ratio: Sequence[float],
        value: int | Sequence[int],
    ) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability!r}; it must lie in [0, 1]")
        check_pair("scale", scale, 0, 1)
        check_pair("ratio", ratio, 0, 1000)
        color = list(value) if isinstance(value, Sequence) else [value] * 3
        if len(color) != 3 or not all(type(c) is int and 0 <= c <= 255 for c in color):
            raise ValueError(
                f"value is {value!r}; it must be a whole number from 0 to 255, or three of them "
                "for a colour"
            )
        self.probability, self.scale, self.ratio = probability, scale, ratio
        self.color = color if isinstance(value, Sequence) else color[:1]

    def draw(self, random: Draws, image_shape: tuple[int, ...]) -> Tensor:
        """int64 [n, 4]: top, left, height, width; an image that is left alone has a box of 0."""
        channels, height, width = image_shape
        if len(self.color) not in (1, channels):
            raise ValueError(
                f"value is {self.color}; images of {channels} channels need one number, or "
                f"{channels}"
            )
        tall, wide, found = draw_sizes(
            random,
            height * width,
            self.scale,
            self.ratio,
            first_draw=3,
            fits=lambda tall, wide: (tall < height) & (wide < width),
        )
        top, left = draw_place(random, 1, height - tall), draw_place(random, 2, width - wide)
        boxes = torch.stack([top, left, tall, wide], dim=1)
        return boxes * (found & random.happens(0, self.probability))[:, None]

    def __call__(self, inputs: Tensor, draws: Tensor) -> Tensor:
        return fill_boxes(inputs, draws, self.color)
