"""What models ask of `input_shape`, the shape of one sample as the dataset's yaml states it."""

from __future__ import annotations

from collections.abc import Sequence


def check_image_shape(
    input_shape: Sequence[int], *, model: str, min_size: int = 1
) -> tuple[int, int, int]:
    """Returns (channels, height, width).

    Raises ValueError where a sample is no image, or one of fewer than `min_size` pixels a side.
    """
    shape = tuple(input_shape)
    if len(shape) != 3:
        raise ValueError(
            f"{model} reads images, and the samples have the shape {list(shape)}; "
            "it must be [channels, height, width]; model=mlp and model=linear read any shape"
        )
    channels, height, width = shape
    if min(height, width) < min_size:
        raise ValueError(
            f"{model} cannot read images of {height}x{width}; each side must have at least "
            f"{min_size} pixels; model=mlp and model=linear read any shape"
        )
    return channels, height, width
