"""A packed set: images of a folder in a few large files, read through memory mappings.

`dltrain prepare` writes it. Reading a sample opens nothing: it is a part of a mapping that was made
once, whose pages are the kernel's to keep or to drop.
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dltrain.data.arrays import check_facts
from dltrain.data.decode import decode
from dltrain.data.download import Progress
from dltrain.data.files import open_file, printable
from dltrain.data.packed_layout import (
    SPLITS,
    Manifest,
    read_ends,
    read_manifest,
    read_rows,
    verify,
)
from dltrain.data.pictures import Pictures, Split, check_pictures

Auto = Literal["auto"]


class Packed:
    """A folder that holds a packed set, with the splits that were packed.

    size, crop_fraction, decode: see `ImageFolder`; decode is of no account where pixels are stored.
    num_classes, mean and std: as the set has them (auto), or other ones.

    That all files are there, of their sizes, is always checked; verify=True reads them once and
    compares their digests.
    """

    def __init__(
        self,
        *,
        root: str,
        num_classes: int | Auto,
        size: int,
        image_shape: Sequence[int],
        crop_fraction: float,
        mean: Sequence[float] | Auto,
        std: Sequence[float] | Auto,
        decode: str,
        verify: bool,
    ) -> None:
        check_pictures(size, image_shape, crop_fraction, decode)
        self.root, self.size, self.crop_fraction = root, size, float(crop_fraction)
        self.image_shape, self.decode, self.verify = (3, size, size), decode, verify
        self._given = {"num_classes": num_classes, "mean": mean, "std": std}
        known: Any = {"num_classes": 1, "mean": [0.0], "std": [1.0]}
        known |= {key: value for key, value in self._given.items() if value != "auto"}
        check_facts(image_shape=image_shape, **known)

    @property
    def num_classes(self) -> int:
        return int(self._fact("num_classes"))

    @property
    def mean(self) -> tuple[float, ...]:
        return tuple(map(float, self._fact("mean")))

    @property
    def std(self) -> tuple[float, ...]:
        return tuple(map(float, self._fact("std")))

    @property
    def classes(self) -> tuple[str, ...]:
        return read_manifest(_folder(self.root)).classes

    @classmethod
    def read_facts(cls, *, root: str) -> dict[str, Any]:
        """What the manifest says."""
        manifest = read_manifest(_folder(root))
        mean, std = list(manifest.mean), list(manifest.std)
        return {"num_classes": manifest.num_classes, "mean": mean, "std": std}

    def load(self, progress: Progress | None = None) -> dict[str, Split]:
        """`train`, `val` and `test`. Raises ValueError where the set is not what it should be."""
        root = _folder(self.root)
        manifest = read_manifest(root)
        if self.num_classes != manifest.num_classes:
            raise ValueError(
                f"{printable(str(root), 200)}: it has {manifest.num_classes:,} classes, but "
                f"dataset.num_classes is {self.num_classes:,}; choose dataset.num_classes=auto"
            )
        if self.verify:
            verify(root, manifest, progress)
        return {split: self._split(root, manifest, split) for split in SPLITS}

    def _split(self, root: Path, manifest: Manifest, split: str) -> Split:
        rows = read_rows(root, manifest, split)
        pictures = Pictures(
            PackedShelf(root, manifest, split, rows),
            np.stack([rows["height"], rows["width"]], axis=1),
            size=self.size,
            crop_fraction=self.crop_fraction,
            exact=self.decode == "exact",
        )
        return Split(pictures, rows["target"].astype(np.int64))

    def _fact(self, name: str) -> Any:
        if self._given[name] == "auto":
            self._given |= self.read_facts(root=self.root) | {
                key: value for key, value in self._given.items() if value != "auto"
            }
        return self._given[name]


class PackedShelf:
    """The images of one split. A `Shelf` of `Pictures`.

    Forks share the mappings; those that were made before a fork need no descriptor in it.
    """

    def __init__(self, root: Path, manifest: Manifest, split: str, rows: np.ndarray) -> None:
        files = manifest.splits[split]
        self._what, self._rows = f"{printable(str(root), 200)}: {split}", rows
        self._are_pixels = manifest.store == "uint8"
        self.decodes = not self._are_pixels
        self._ends = read_ends(root / files.names, len(rows))
        self._names = _mapped(root / files.names)
        self._shards = [_mapped(root / name) for name in files.shards]

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int, *, shrink: int, exact: bool) -> np.ndarray:
        """A view of the mapping, not to be written to, where pixels are stored."""
        offset, num_bytes, shard, height, width, _ = self._rows[index].item()
        data = self._shards[shard]
        if self._are_pixels:
            return np.ndarray((height, width, 3), np.uint8, data, offset)
        return decode(data[offset : offset + num_bytes], shrink=shrink, exact=exact)

    def content(self, index: int) -> bytes:
        """The file as it was packed. Raises ValueError where its pixels were packed instead."""
        if self._are_pixels:
            raise ValueError("the set holds pixels and not files; choose prepare.store=uint8")
        offset, num_bytes, shard, *_ = self._rows[index].item()
        return self._shards[shard][offset : offset + num_bytes]

    def version(self, index: int) -> tuple[int, int]:
        """Its bytes, and nothing that changes with time."""
        return int(self._rows[index]["num_bytes"]), 0

    def name(self, index: int) -> str:
        """As the packed folder had it."""
        begin, end = self._ends[index - 1] if index else 0, self._ends[index]
        within = self._ends.nbytes
        return os.fsdecode(self._names[within + int(begin) : within + int(end)])

    def identity(self, count: int) -> Iterator[bytes]:
        """Their names, and how many bytes each has; not in which shard it lies."""
        if count:
            within = self._ends.nbytes
            yield np.ascontiguousarray(self._rows["num_bytes"][:count]).tobytes()
            yield self._names[within : within + int(self._ends[count - 1])]

    def describe(self, index: int) -> str:
        return f"{self._what} image {self.name(index)}"


def _mapped(path: Path) -> Any:
    """The bytes of a file, where they lie. An empty file cannot be mapped, and is b""."""
    with open_file(path) as file:
        if not os.fstat(file.fileno()).st_size:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _folder(root: str) -> Path:
    path = Path(os.path.expanduser(root))
    if path.exists() and not path.is_dir():
        raise ValueError(f"dataset.root is {printable(str(path), 200)}: a file; expected a folder")
    return path
