"""Images that no dataset holds, made what a network saw of its validation set."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dltrain.data.files import printable
from dltrain.data.formats import to_rgb
from dltrain.data.headers import read_header
from dltrain.data.pictures import Pictures, middle, resize
from dltrain.data.shelf import FileShelf

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray


class Unseen:
    """Image files, Pillow's images and arrays -> uint8 [C, H, W], as a dataset would hold them.

    With crop_fraction, as `Pictures` makes them for validation, of the same bytes the same pixels;
    decode: see there. Without (a dataset of arrays), an image is resized to the height and width of
    image_shape, with antialiasing, where it has others, and made gray where that has one channel
    (ITU-R 601, as Pillow).
    """

    def __init__(
        self, image_shape: Sequence[int], *, crop_fraction: float | None, decode: str = "exact"
    ) -> None:
        self.shape = tuple(image_shape)
        if len(self.shape) != 3 or self.shape[0] not in (1, 3):
            raise ValueError(
                f"this run's samples have the shape {list(self.shape)}; images are for runs on "
                "[1, H, W] or [3, H, W]"
            )
        self._crop_fraction, self._exact = crop_fraction, decode == "exact"

    def read_file(self, path: str, out: np.ndarray) -> None:
        """Writes the file's picture into out. Raises ValueError, in words that follow its name."""
        height, width, *_ = read_header(os.fsencode(path))
        shelf = FileShelf(Path(), [path])
        if self._crop_fraction is None:
            out[...] = self._fit(shelf.load(0, shrink=1, exact=self._exact))
            return
        pictures = Pictures(
            shelf,
            np.array([[height, width]], np.int32),
            size=self.shape[1],
            crop_fraction=self._crop_fraction,
            exact=self._exact,
        )
        pictures.read(0, out)

    def convert(self, image: ImageLike) -> np.ndarray:
        """uint8 [C, H, W]. Raises ValueError, which names a file, for what is no image."""
        if isinstance(image, str | os.PathLike):
            path, out = os.fspath(image), np.empty(self.shape, np.uint8)
            try:
                self.read_file(path, out)
            except (ValueError, OSError) as error:
                raise ValueError(f"{printable(path, 200)}: {error}") from error
            return out
        if isinstance(image, Image.Image):
            return self._frame(to_rgb(image))
        array = np.asarray(image)
        if array.dtype != np.uint8:
            raise ValueError(f"an image is an array of {array.dtype}; expected uint8, 0 to 255")
        if array.shape == self.shape:
            return array
        return self._frame(self._as_rgb(array))

    def _frame(self, pixels: np.ndarray) -> np.ndarray:
        if self._crop_fraction is None:
            return self._fit(pixels)
        size = self.shape[1]
        return middle(pixels, round(size / self._crop_fraction), size).transpose(2, 0, 1)

    def _fit(self, pixels: np.ndarray) -> np.ndarray:
        channels, height, width = self.shape
        pixels = resize(pixels, height, width)
        return (gray(pixels) if channels == 1 else pixels).transpose(2, 0, 1)

    def _as_rgb(self, array: np.ndarray) -> np.ndarray:
        """uint8 [H, W], [H, W, 1] or [H, W, 3] -> uint8 [H, W, 3]."""
        own = array.shape
        if array.ndim == 2:
            array = array[..., None]
        if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
            raise ValueError(
                f"an image is an array of shape {list(own)}; expected [H, W], [H, W, 1], [H, W, 3] "
                f"or {list(self.shape)}, and of several a list or [n, ...] of one of these"
            )
        return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def gray(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [H, W, 1], to the bit as Pillow's convert("L"); gray stays as is."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    luma = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return luma.astype(np.uint8)[..., None]
