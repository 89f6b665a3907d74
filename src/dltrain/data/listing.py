"""What a folder of images holds: names, labels and sizes by split, without a picture decoded."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

# Of one image. height and width are those that are seen, after the rotation that EXIF asks for;
# format and mode are places in FORMATS and MODES; orientation is EXIF's, 1 to 8.
KIND = np.dtype(
    [
        ("height", "<i4"),
        ("width", "<i4"),
        ("format", "u1"),
        ("mode", "u1"),
        ("orientation", "u1"),
    ]
)
# Pillow's own limit against decompression bombs; what is larger is no photograph: 13,377 squared.
MAX_PIXELS = 178_956_970
FORMATS = ("JPEG", "PNG", "WebP", "BMP")
MODES = ("color", "grayscale", "1-bit", "16-bit", "palette", "alpha", "CMYK")

_AT_ONCE = 1 << 16  # names that are objects of their own at a time
_NONE = np.zeros(0, np.int64)


class Names(Sequence[str]):
    """File names in one block of memory: a third of what a list of str takes, and a fork that
    reads it copies no page.

    They are bytes on the disk; as str, what is no UTF-8 is escaped as `os.fsdecode` does it.
    """

    def __init__(self, blob: bytes, ends: np.ndarray) -> None:
        self.blob, self.ends = blob, ends  # ends: int64 [N], where each name ends in blob

    @classmethod
    def of(cls, names: Iterable[bytes]) -> "Names":
        listed = list(names)
        lengths = np.fromiter(map(len, listed), np.int64, len(listed))
        return cls(b"".join(listed), np.cumsum(lengths))

    @classmethod
    def joined(cls, parts: Sequence["Names"]) -> "Names":
        """One after another."""
        lengths = [np.diff(each.ends, prepend=0) for each in parts]
        return cls(
            b"".join(each.blob for each in parts), np.cumsum(np.concatenate([_NONE, *lengths]))
        )

    def __len__(self) -> int:
        return len(self.ends)

    def as_bytes(self, index: int) -> bytes:
        index = range(len(self.ends))[index]
        begin = int(self.ends[index - 1]) if index else 0
        return self.blob[begin : int(self.ends[index])]

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[each] for each in range(len(self))[index]]
        return os.fsdecode(self.as_bytes(index))

    def take(self, index: np.ndarray) -> "Names":
        """The names of index, int64 [n], in its order."""
        parts = [index[begin : begin + _AT_ONCE] for begin in range(0, len(index), _AT_ONCE)]
        return Names.joined([Names.of(map(self.as_bytes, part.tolist())) for part in parts])


@dataclass(frozen=True)
class Listing:
    """One split of N images, sorted by class and name: the same on every file system.

    names are relative to root; targets: int64 [N]; kinds: KIND [N].
    """

    root: Path
    names: Names
    targets: np.ndarray
    kinds: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def sizes(self) -> np.ndarray:
        """int32 [N, 2]: height and width as they are seen. A copy."""
        return np.stack([self.kinds["height"], self.kinds["width"]], axis=1)

    def take(self, index: np.ndarray) -> "Listing":
        """The images of index, in its order."""
        return Listing(
            self.root,
            self.names.take(index),
            self.targets[index],
            self.kinds[index],
            self.classes,
        )


def describe(kinds: np.ndarray) -> str:
    """What had to be converted: `12 grayscale, 3 CMYK, 40 rotated by EXIF`; or nothing."""
    counts = np.bincount(kinds["mode"], minlength=len(MODES))
    said = [f"{count:,} {name}" for name, count in zip(MODES, counts, strict=True) if count]
    said = [each for each in said if not each.endswith(f" {MODES[0]}")]
    rotated = int((kinds["orientation"] != 1).sum())
    return ", ".join(said + [f"{rotated:,} rotated by EXIF"] * bool(rotated))
