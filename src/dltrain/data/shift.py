"""Random translation: the picture moves, and what it uncovers is black."""

import torch
from torch import Tensor

from dltrain.data.augment import move_images
from dltrain.data.length import check_length, in_pixels
from dltrain.data.randomness import Draws


class Shift:
    """Moves an image by up to `distance` pixels (or that part of its sides) in each direction.

    All distances are equally likely. The same pictures as torchvision's RandomAffine(0,
    translate=...), and with whole pixels as `Crop` with that padding.
    """

    def __init__(self, *, distance: int | float) -> None:
        check_length("distance", distance)
        self.distance = distance

    def draw(self, random: Draws, image_shape: tuple[int, ...]) -> Tensor:
        """int64 [n, 2]: pixels by which each image moves down and to the right."""
        most = [in_pixels(self.distance, side) for side in image_shape[1:]]
        return torch.stack([random.integers(k, 2 * m + 1) - m for k, m in enumerate(most)], dim=1)

    def move(self, rows: Tensor, columns: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        return rows - draws[:, :1], columns - draws[:, 1:]

    def __call__(self, inputs: Tensor, draws: Tensor) -> Tensor:
        return move_images(inputs, [(self, draws)])
