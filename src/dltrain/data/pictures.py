"""Images of any size as samples of one size: what a reader makes of a file before it is a sample.

Training takes the part that an augmentation has drawn, and brings it to the size wanted;
everything else takes the middle, as evaluation on ImageNet does (He et al. 2015, section 3.4).
Resizing is torch's antialiased one for bytes: what torchvision's transforms of tensors call, and
within 1/255 of Pillow's in a quarter of its time.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

DECODERS = ("exact", "fast")  # see `Pictures`
_LONG, _KEPT = 8, 4  # times the shorter side


def check_pictures(
    size: int, image_shape: Sequence[int], crop_fraction: float, decode: str
) -> None:
    """Raises ValueError unless they say what `Pictures` are to be made."""
    if list(image_shape) != [3, size, size]:
        raise ValueError(
            f"dataset.image_shape is {list(image_shape)}; it must be [3, {size}, {size}], as "
            "dataset.size says"
        )
    if not 0.1 <= crop_fraction <= 1:
        raise ValueError(f"dataset.crop_fraction is {crop_fraction}; it must be >= 0.1 and <= 1")
    if decode not in DECODERS:
        raise ValueError(f"dataset.decode is {decode!r}; it must be one of {', '.join(DECODERS)}")


class Shelf(Protocol):
    """Where images lie: files, or a packed set. `decodes` is False where `load` need not."""

    def __len__(self) -> int: ...

    def load(self, index: int, *, shrink: int, exact: bool) -> np.ndarray:
        """uint8 [H, W, 3]; see `dltrain.data.decode.decode`."""

    def identity(self, count: int) -> Iterator[bytes]:
        """What tells the first `count` images from others, wherever they lie; see `fingerprint`."""

    def describe(self, index: int) -> str:
        """The image's name."""


class Split(NamedTuple):
    """Images, which are read when they are wanted, and targets: int64 [N]."""

    inputs: "Pictures"
    targets: np.ndarray


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
        self.shelf, self._exact = shelf, exact
        self.decodes: bool = getattr(shelf, "decodes", True)
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
            self.shelf,
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
        given = getattr(self.shelf, "shards", None)
        if given is None:
            return None
        sizes = np.diff(given[0].cumsum().clip(max=len(self)), prepend=0)
        return sizes[sizes > 0], given[1]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def nbytes(self) -> int:
        """What all samples would take in memory."""
        return len(self) * math.prod(self.shape)

    def identity(self) -> Iterator[bytes]:
        """What tells them from others without a picture being read; see `fingerprint`."""
        yield np.ascontiguousarray(self.sizes).tobytes()
        yield from self.shelf.identity(len(self))

    def describe(self, index: int) -> str:
        return self.shelf.describe(index)

    def read(self, index: int, out: np.ndarray, *box: int) -> None:
        """Writes the part `box` (top, left, height, width) of an image, or its middle, into out."""
        height, width = map(int, self.sizes[index])
        top, left, tall, wide = box or (0, 0, height, width)
        wanted = self._size if box else round(self._size / self._crop_fraction)
        shrink = 1 if self._exact else _shrink(min(tall, wide), wanted)
        pixels = self.shelf.load(index, shrink=shrink, exact=self._exact)
        if shrink > 1:  # the decoder may have rounded the size up, and others do not shrink at all
            down, across = pixels.shape[0] / height, pixels.shape[1] / width
            bottom, right = round((top + tall) * down), round((left + wide) * across)
            top, left = round(top * down), round(left * across)
            tall, wide = max(1, bottom - top), max(1, right - left)
        elif pixels.shape[:2] != (height, width):
            raise ValueError(
                f"it has {pixels.shape[0]} x {pixels.shape[1]} pixels, and had {height} x {width} "
                "when the dataset was looked through: it has changed since; with DLTRAIN_CACHE=off "
                "every file is looked at again"
            )
        stored = out.transpose(1, 2, 0)
        if box:
            resize_into(pixels[top : top + tall, left : left + wide], stored)
        else:
            stored[...] = middle(pixels, wanted, self._size)


def middle(pixels: np.ndarray, shorter: int, size: int) -> np.ndarray:
    """The shorter side resized to `shorter`, then size x size in the middle.

    As torchvision's Resize and CenterCrop. Of an image that is longer than it is wide by more than
    _LONG, only the middle is resized: all of it could need any amount of memory.
    """
    height, width = pixels.shape[:2]
    least = min(height, width)
    if max(height, width) > _LONG * least:
        down, across = ((side - min(side, _KEPT * least)) // 2 for side in (height, width))
        pixels = pixels[down : height - down, across : width - across]
        height, width = pixels.shape[:2]
    tall, wide = (shorter * side // least for side in (height, width))
    resized = resize(pixels, tall, wide)
    top, left = round((tall - size) / 2), round((wide - size) / 2)
    return resized[top : top + size, left : left + size]


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [height, width, 3], bilinear with antialiasing."""
    if pixels.shape[:2] == (height, width):
        return pixels
    resized = np.empty((height, width, 3), np.uint8)
    resize_into(pixels, resized)
    return resized


def resize_into(pixels: np.ndarray, out: np.ndarray) -> None:
    """The same, uint8 [H, W, 3] -> `out`, uint8 [height, width, 3].

    Into memory where the three bytes of a pixel lie together torch writes at once, which takes a
    third of the time of giving it room of its own; out of a part that was copied first a little
    less than out of rows that lie apart.
    """
    if pixels.shape == out.shape:
        out[...] = pixels
        return
    import torch  # here, for a dataset is loaded before torch is

    if not out.flags.c_contiguous:  # nobody's batch
        out[...] = resize(pixels, *out.shape[:2])
        return
    if not (pixels.flags.c_contiguous and pixels.flags.writeable):
        pixels = pixels.copy()
    # What F.interpolate calls, with `out`. Where nothing shrinks, antialiasing has nothing to do,
    # and takes twice the time for the same bits.
    larger = pixels.shape[0] <= out.shape[0] and pixels.shape[1] <= out.shape[1]
    ops = torch.ops.aten
    interpolate = ops.upsample_bilinear2d if larger else ops._upsample_bilinear2d_aa
    interpolate.out(
        torch.from_numpy(pixels).permute(2, 0, 1)[None],
        out.shape[:2],
        align_corners=False,
        out=torch.from_numpy(out).permute(2, 0, 1)[None],
    )


def _shrink(side: int, wanted: int) -> int:
    """The largest of 1, 2, 4 and 8 that leaves at least `wanted` pixels of side."""
    return max(factor for factor in (1, 2, 4, 8) if factor == 1 or side >= factor * wanted)
