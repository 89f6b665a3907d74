"""Where images lie that are read one at a time: a file each."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dltrain.data.decode import decode


class FileShelf:
    """Image files below a folder, by their names relative to it. A `Shelf` of `Pictures`."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._root, self._names = os.fspath(root), names

    def __len__(self) -> int:
        return len(self._names)

    def load(self, index: int, *, shrink: int, exact: bool) -> np.ndarray:
        return decode(self.content(index), shrink=shrink, exact=exact)

    def content(self, index: int) -> bytes:
        """The file as it is."""
        with open(self.describe(index), "rb") as file:
            return file.read()

    def version(self, index: int) -> tuple[int, int]:
        """Bytes and time of the last change in ns: another file has others."""
        status = os.stat(self.describe(index))
        return status.st_size, status.st_mtime_ns

    def name(self, index: int) -> str:
        return self._names[index]

    def describe(self, index: int) -> str:
        return os.path.join(self._root, self._names[index])
