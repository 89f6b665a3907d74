"""A length in an image: so many pixels (a whole number), or a part of the side (0.25)."""


def check_length(name: str, value: int | float) -> None:
    """Raises ValueError unless value is a whole number of pixels or a part of a side."""
    is_pixels = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1024
    is_part = isinstance(value, float) and 0 <= value <= 1
    if not (is_pixels or is_part):
        raise ValueError(
            f"{name} is {value!r}; it must be a whole number of pixels from 0 to 1024, or a part "
            "of the side from 0.0 to 1.0, such as 0.25"
        )


def in_pixels(length: int | float, side: int) -> int:
    """1 is a pixel, 1.0 the whole side; a part is rounded down."""
    return length if isinstance(length, int) else int(length * side)
