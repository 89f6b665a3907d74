"""Random rectangles within an image, and filling them.

A box is int64 [n, 4]: top, left, height, width.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dltrain.data.randomness import Draws

NUM_TRIES = 10
# Aspect ratios come from a table made on the host: a GPU's exp() differs from a CPU's in the last
# bit. At 4096 of them, neighbours differ by less than a pixel in 2,000.
_NUM_RATIOS = 4096


def check_pair(name: str, value: Sequence[float], low: float, high: float) -> None:
    """Raises ValueError unless value is two increasing numbers in (low, high]."""
    is_pair = not isinstance(value, str) and isinstance(value, Sequence) and len(value) == 2
    if not is_pair or not low < value[0] <= value[1] <= high:
        raise ValueError(
            f"{name} is {value!r}; it must be two increasing numbers > {low:g} and <= {high:g}, "
            "such as [0.3, 0.9]"
        )


def draw_sizes(
    random: Draws,
    area: int | Tensor,
    scale: Sequence[float],
    ratio: Sequence[float],
    *,
    first_draw: int,
    fits: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Sides of rectangles with a uniform part of `area` and a log-uniform ratio of first to second.

    int64 [n], int64 [n], and bool [n]: whether one of ten tries fitted (else the sides are 0). A
    try is what torchvision's RandomErasing and RandomResizedCrop make. It takes two draws.
    """
    first = torch.zeros_like(random.bits(first_draw))
    second, found = first.clone(), first.bool()
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    part = (log_high - log_low) / _NUM_RATIOS
    exponents = [log_low + (step + 0.5) * part for step in range(_NUM_RATIOS)]
    ratios = torch.tensor([math.exp(e) for e in exponents], dtype=torch.float64).to(first.device)
    for draw in range(first_draw, first_draw + 2 * NUM_TRIES, 2):
        # float64: sums, products, roots and quotients are rounded alike on every device
        areas = area * (scale[0] + random.uniform(draw).double() * (scale[1] - scale[0]))
        ratio_of_sample = ratios[random.integers(draw + 1, _NUM_RATIOS)]
        sides = [(areas * ratio_of_sample).sqrt().round(), (areas / ratio_of_sample).sqrt().round()]
        new = fits(*sides) & ~found
        first = torch.where(new, sides[0].long(), first)
        second = torch.where(new, sides[1].long(), second)
        found |= new
        if bool(found.all()):  # waits for the device, some three times an epoch
            break
    return first, second, found


def draw_place(random: Draws, draw: int, room: Tensor) -> Tensor:
    """int64 [n], uniform in [0, room]."""
    return (random.bits(draw) * (room + 1)) >> 32


def fill_boxes(images: Tensor, boxes: Tensor, color: Sequence[int]) -> Tensor:
    """uint8 [n, C, H, W] with each image's box in `color`, one number a channel or one for all.

    Boxes may reach over the border. Products of bytes: torch.where takes 100 times as long where
    the mask is not the same for long runs.
    """
    channels, width = images.shape[1], images.shape[3]
    lines, inside = image_lines(images), inside_boxes(images, boxes, torch.uint8)
    paint = torch.tensor(color, dtype=torch.uint8, device=images.device).expand(channels)
    paint = paint.repeat(width) if lines.dim() == 3 else paint[:, None, None]
    filled = lines * (1 - inside)
    if any(color):
        filled += inside * paint
    return like_lines(images, filled)


def image_lines(images: Tensor) -> Tensor:
    """[n, C, H, W] as it is, or in channels_last as [n, H, W x C].

    So that inner loops are long: one over three channels would cost more than the arithmetic.
    """
    if images.is_contiguous() or not images.is_contiguous(memory_format=torch.channels_last):
        return images
    return images.permute(0, 2, 3, 1).flatten(2)


def like_lines(images: Tensor, lines: Tensor) -> Tensor:
    """The inverse of `image_lines(images)`, for other values."""
    if lines.dim() == 4:
        return lines
    num_images, channels, height, width = images.shape
    return lines.view(num_images, height, width, channels).permute(0, 3, 1, 2)


def inside_boxes(images: Tensor, boxes: Tensor, dtype: torch.dtype) -> Tensor:
    """1 where a pixel lies in its image's box, else 0: fits `image_lines(images)`."""
    channels, height, width = images.shape[1:]
    row, column = (torch.arange(side, device=images.device) for side in (height, width))
    top, left, box_height, box_width = boxes[:, :, None].unbind(1)
    in_rows = ((row >= top) & (row < top + box_height)).to(dtype)
    in_columns = ((column >= left) & (column < left + box_width)).to(dtype)
    if image_lines(images).dim() == 3:
        in_columns = in_columns.repeat_interleave(channels, dim=1)
    else:
        in_rows, in_columns = in_rows[:, None], in_columns[:, None]
    return in_rows[..., None] * in_columns[..., None, :]
