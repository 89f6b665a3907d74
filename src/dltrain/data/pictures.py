"""Images of any size as samples of one size: what a reader makes of a file before it is a sample.

Training takes the part that an augmentation has drawn, and brings it to the size wanted;
everything else takes the middle, as evaluation on ImageNet does (He et al. 2015, section 3.4).
Resizing is torch's antialiased one for bytes: what torchvision's transforms of tensors call, and
within 1/255 of Pillow's in a quarter of its time.
"""

import math
from typing import Protocol

import numpy as np

DECODERS = ("exact", "fast")  # see `Pictures`


class Shelf(Protocol):
    """Where images lie: files, or a packed set."""

    def __len__(self) -> int: ...

    def load(self, index: int, *, shrink: int, exact: bool) -> np.ndarray:
        """uint8 [H, W, 3]; see `dltrain.data.decode.decode`."""

    def describe(self, index: int) -> str:
        """The image's name."""


class Pictures:
    """A `Source` of uint8 [3, size, size] that reads like an array [N, 3, size, size].

    sizes: int32 [N, 2], heights and widths of the images. The middle is that of the image after its
    shorter side was resized to size / crop_fraction.

    exact=False takes faster ways with other pixels: JPEGs are decoded by a fast cosine transform,
    and at a half, a quarter or an eighth of their size where the part has as many pixels then as
    are wanted.
    """

    dtype, ndim = np.dtype(np.uint8), 4
    channels_last = True

    def __init__(
        self, shelf: Shelf, sizes: np.ndarray, *, size: int, crop_fraction: float, exact: bool
    ) -> None:
        assert len(shelf) >= len(sizes), (len(shelf), sizes.shape)
        self._shelf, self._exact = shelf, exact
        self._size, self._crop_fraction = size, crop_fraction
        self.sizes = sizes
        self.shape: tuple[int, ...] = (3, size, size)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, part: slice) -> "Pictures":
        """The first of them: [:n]."""
        assert not part.start
        assert part.step is None
        return Pictures(
            self._shelf,
            self.sizes[part],
            size=self._size,
            crop_fraction=self._crop_fraction,
            exact=self._exact,
        )

    @property
    def shards(self) -> tuple[np.ndarray, int] | None:
        """Of a shelf that lies in shards: the samples of each, and how many may be open at a time.

        They decide in which order training reads; see `dltrain.data.order`.
        """
        given = getattr(self._shelf, "shards", None)
        if given is None:
            return None
        sizes = np.diff(given[0].cumsum().clip(max=len(self)), prepend=0)
        return sizes[sizes > 0], given[1]

    @property
    def nbytes(self) -> int:
        """What all samples would take in memory."""
        return len(self) * math.prod(self.shape)

    def describe(self, index: int) -> str:
        return self._shelf.describe(index)

    def read(self, index: int, out: np.ndarray, *box: int) -> None:
        """Writes the part `box` (top, left, height, width) of an image, or its middle, into out."""
        height, width = map(int, self.sizes[index])
        top, left, tall, wide = box or (0, 0, height, width)
        wanted = self._size if box else round(self._size / self._crop_fraction)
        shrink = 1 if self._exact else _shrink(min(tall, wide), wanted)
        pixels = self._shelf.load(index, shrink=shrink, exact=self._exact)
        if shrink > 1:  # the decoder may have rounded the size up, and others do not shrink at all
            down, across = pixels.shape[0] / height, pixels.shape[1] / width
            bottom, right = round((top + tall) * down), round((left + wide) * across)
            top, left = round(top * down), round(left * across)
            tall, wide = max(1, bottom - top), max(1, right - left)
        elif pixels.shape[:2] != (height, width):
            raise ValueError(
                f"it has {pixels.shape[0]} x {pixels.shape[1]} pixels, and had {height} x {width} "
                "when the dataset was looked through: it has changed since"
            )
        if box:
            part = resize(pixels[top : top + tall, left : left + wide], self._size, self._size)
        else:
            part = middle(pixels, wanted, self._size)
        out.transpose(1, 2, 0)[...] = part


def middle(pixels: np.ndarray, shorter: int, size: int) -> np.ndarray:
    """The shorter side resized to `shorter`, then size x size in the middle.

    As torchvision's Resize and CenterCrop, which pads with black where there is less.
    """
    height, width = pixels.shape[:2]
    least = min(height, width)
    tall, wide = (shorter * side // least for side in (height, width))
    resized = resize(pixels, tall, wide)
    top, left = round((tall - size) / 2), round((wide - size) / 2)
    return resized[top : top + size, left : left + size]


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [height, width, 3], bilinear with antialiasing."""
    if pixels.shape[:2] == (height, width):
        return pixels
    import torch  # here, for a dataset is loaded before torch is

    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        image, size=(height, width), mode="bilinear", antialias=True
    )
    return resized[0].permute(1, 2, 0).numpy()


def _shrink(side: int, wanted: int) -> int:
    """The largest of 1, 2, 4 and 8 that leaves at least `wanted` pixels of side."""
    return max(factor for factor in (1, 2, 4, 8) if factor == 1 or side >= factor * wanted)
