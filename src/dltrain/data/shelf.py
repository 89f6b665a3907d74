"""Where images lie that are read one at a time: a file each."""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dltrain.data.decode import decode
from dltrain.data.files import printable
from dltrain.data.headers import MAX_FILE_BYTES
from dltrain.data.listing import Names


class FileShelf:
    """Image files below a folder, by their names relative to it. A `Shelf` of `Pictures`."""

    decodes = True

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._root, self._names = os.fspath(root), names

    def __len__(self) -> int:
        return len(self._names)

    def load(self, index: int, *, shrink: int, exact: bool) -> np.ndarray:
        return decode(self.content(index), shrink=shrink, exact=exact)

    def content(self, index: int) -> bytes:
        """The file as it is."""
        return _read(self._path(index))

    def version(self, index: int) -> tuple[int, int]:
        """Bytes and time of the last change in ns: another file has others."""
        status = os.stat(self._path(index))
        return status.st_size, status.st_mtime_ns

    def name(self, index: int) -> str:
        return self._names[index]

    def identity(self, count: int) -> Iterator[bytes]:
        """Their names: what tells the first `count` images from others, wherever they lie."""
        names = self._names
        if isinstance(names, Names):  # as they lie there: a million in 10 ms
            ends = names.ends[:count]
            yield ends.tobytes()
            yield names.blob[: int(ends[-1]) if count else 0]
            return
        for name in names[:count]:
            yield os.fsencode(f"{name}\0")

    def describe(self, index: int) -> str:
        return printable(self._path(index), 200)

    def _path(self, index: int) -> str:
        return os.path.join(self._root, self._names[index])


def _read(path: str) -> bytes:
    """A file that was looked at before, and may be anything by now: a pipe would never end."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            raise ValueError(
                f"it is no regular file of at most {MAX_FILE_BYTES:,} bytes (any more)"
            )
        return file.read(status.st_size)
