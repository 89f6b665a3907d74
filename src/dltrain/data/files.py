"""Files that somebody else wrote: found, read within bounds, described when they are wrong."""

import gzip
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

# No file of the datasets here is larger; what claims to be is damaged or hostile.
MAX_BYTES = 1 << 30
_PIECE = 1 << 20


def find_file(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of the names that exists in the folder, as a file or anything else."""
    return next((folder / name for name in names if (folder / name).exists()), None)


def not_found(title: str, names: str, folders: Sequence[Path], urls: Iterable[str]) -> NoReturn:
    """Raises FileNotFoundError: what is missing, where it was looked for, how to get it."""
    first, *others = (str(folder.absolute()) for folder in folders)
    published = list(urls)
    site = published[0].rpartition("/")[0]
    raise FileNotFoundError(
        f"{title}: no {names}\n"
        f"looked in {first}" + (f" (and {', '.join(others)})" if others else "") + "\n"
        "Add `dataset.download=true`, or say with `dataset.root=DIR` where it lies, or fetch\n"
        f"{', '.join(url.rpartition('/')[2] for url in published)}\n"
        f"by hand from {site} into {first}"
    )


def open_file(path: Path) -> BinaryIO:
    """A regular file for reading. Raises ValueError for a folder, a pipe or a device."""
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    return path.open("rb")


def read_file(path: Path) -> bytearray:
    """All of a file. Raises ValueError for one of more than MAX_BYTES."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            refuse(path, f"it has {size:,} bytes", f"at most {MAX_BYTES:,}")
        return bytearray(file.read(size))


def refuse(path: Path, found: str, expected: str) -> NoReturn:
    """Raises ValueError: the path, what was found and expected, and what the file looks like."""
    with open_file(path) as file:
        head = file.read(512)
    seen = _describe(head)
    hint = f". The file {seen}" if seen else ""
    raise ValueError(f"{path}: {found}; expected {expected}{hint}. Remove it and get it again")


def _describe(head: bytes) -> str:
    """What a file's first bytes say of it, or nothing if they are unremarkable."""
    text = head.lstrip().lower()
    if not head:
        return "is empty"
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head", b"<!--")):
        return "is a web page (an error page of a download, perhaps)"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "is a Git LFS pointer, not the data: `git lfs pull` fetches it"
    if not head.strip(b"\0"):
        return "begins with zeros, as one whose download was cut off"
    if head.startswith(b"\x1f\x8b"):
        return "is compressed with gzip"
    return ""


class Reader:
    """Bytes of a file, or of what its gzip compression holds, never more than are asked for.

    `exactly` raises ValueError where the file ends too early or its compression is damaged;
    `expect_end` where it goes on.
    """

    def __init__(self, path: Path, *, compressed: bool) -> None:
        self.path = path
        self._file = open_file(path)
        # GzipFile decompresses as much as is read and no more: a bomb stays folded
        self._stream = gzip.GzipFile(fileobj=self._file) if compressed else self._file

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()
        self._file.close()

    def exactly(self, num_bytes: int, what: str) -> bytearray:
        """num_bytes, in pieces: memory grows with what is there, not with what is claimed."""
        if num_bytes > MAX_BYTES:
            refuse(self.path, f"{what} of {num_bytes:,} bytes", f"at most {MAX_BYTES:,}")
        data = bytearray()
        while len(data) < num_bytes:
            piece = self._read(min(_PIECE, num_bytes - len(data)))
            if not piece:
                refuse(self.path, f"it ends after {len(data):,} bytes of {what}", f"{num_bytes:,}")
            data += piece
        return data

    def expect_end(self, what: str) -> None:
        """The last bytes of a gzip file hold its checksum: reaching the end compares it."""
        if self._read(1):
            refuse(self.path, f"it goes on after {what}", "its end")

    def _read(self, num_bytes: int) -> bytes:
        try:
            return self._stream.read(num_bytes)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            refuse(self.path, f"its gzip compression is damaged ({error})", "an intact file")
