"""Shear, translation and rotation: each output pixel is read at the nearest place of its image."""

import math

import torch
from torch import Tensor

# Six numbers a, b, c, d, e, f: an output pixel (x, y), counted from the image's centre, is read at
# (a x + b y + c, d x + e y + f).
Matrix = tuple[float, float, float, float, float, float]


def shear_x(slope: float, height: int) -> Matrix:
    """Each row is read so much further right than the one above; the topmost stays."""
    return (1.0, slope, slope * height / 2, 0.0, 1.0, 0.0)


def shear_y(slope: float, width: int) -> Matrix:
    """Each column is read so much further down than the one to its left; the leftmost stays."""
    return (1.0, 0.0, 0.0, slope, 1.0, slope * width / 2)


def translation(*, right: int = 0, down: int = 0) -> Matrix:
    return (1.0, 0.0, -float(right), 0.0, 1.0, -float(down))


def rotation(degrees: float) -> Matrix:
    """Against the clock, about the centre."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (cosine, -sine, 0.0, sine, cosine, 0.0)


def move_affinely(images: Tensor, matrices: Tensor) -> Tensor:
    """uint8 [n, C, H, W], contiguous; matrices: [n, 6], a `Matrix` each. Outside it is black."""
    num_images, channels, height, width = images.shape
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = (torch.arange(height, device=images.device) - (height - 1) / 2)[:, None]
    a, b, c, d, e, f = matrices.float()[:, :, None, None].unbind(1)
    columns = (a * x + b * y + (c + (width - 1) / 2)).round_()
    rows = (d * x + e * y + (f + (height - 1) / 2)).round_()
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    index = rows.mul_(width).add_(columns).mul_(inside).long().view(num_images, 1, -1)
    planes = images.view(num_images, channels, height * width)
    moved = planes.gather(2, index.expand(-1, channels, -1))
    return moved.mul_(inside.view(num_images, 1, -1)).view(images.shape)
