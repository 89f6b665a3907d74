"""Files that somebody else wrote: found, read within bounds, described when they are wrong."""

import errno
import gzip
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

# No file of the datasets here is larger; what claims to be is damaged or hostile.
MAX_BYTES = 1 << 30
_PIECE = 1 << 20


_GZIP = b"\x1f\x8b"
# By the first bytes of a file: what it is
_SIGNATURES = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer: `git lfs pull` fetches it"),
    (_GZIP, "compressed with gzip"),
    (b"PK\x03\x04", "a zip archive"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ\0", "compressed with xz"),
    (b"\x89HDF\r\n", "HDF5"),
    (b"{", "JSON (an error message of a download, perhaps)"),
)
_KINDS = (
    (stat.S_ISREG, ""),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def find_file(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of the names that is in the folder, as a file or anything else."""
    return next((folder / name for name in names if os.path.lexists(folder / name)), None)


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


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """A regular file for reading. Raises ValueError for anything else, and for a broken disk."""
    try:
        with _open(path) as file:
            yield file
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise ValueError(
            f"{path}: it cannot be read ({error.strerror}); expected a regular file on a good disk"
        ) from error


def _open(path: Path) -> BinaryIO:
    kind = kind_of(path)
    if kind:
        raise ValueError(f"{path}: it is {kind}; expected a regular file")
    try:
        return path.open("rb")
    except PermissionError as error:
        raise ValueError(f"{path}: you may not read it; expected a file that you may") from error


@contextmanager
def naming(path: Path, needed: str) -> Iterator[None]:
    """For writing: a full disk does not say by itself where it is full, nor what was too much."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, f"{error.strerror} ({needed})", str(path)) from error


def kind_of(path: Path) -> str:
    """What is there, if it is no regular file: `a folder`, for example."""
    try:
        mode = path.stat().st_mode
    except OSError:
        if path.is_symlink():
            return "a link to nothing"
        raise
    return next((kind for matches, kind in _KINDS if matches(mode)), "a device")


def check_root(root: Path) -> None:
    """Raises ValueError where root is something else than a folder that may be read, or nothing."""
    try:
        os.lstat(root)
    except (FileNotFoundError, NotADirectoryError):
        return  # to be downloaded, or said with all that is missing
    except OSError as error:
        shown = printable(str(root), 200)
        raise ValueError(f"dataset.root is {shown}: {error.strerror}; expected a folder") from error
    if not root.is_dir():
        kind = kind_of(root) or "a file"
        raise ValueError(f"dataset.root is {root}: it is {kind}; expected a folder")
    if not os.access(root, os.R_OK | os.X_OK):
        raise ValueError(
            f"dataset.root is {root}: you may not read it; expected a folder that you may"
        )


def refuse(path: Path, found: str, expected: str) -> NoReturn:
    """Raises ValueError: the path, what was found and expected, and what the file looks like."""
    head = b"?"
    with suppress(OSError), open_file(path) as file:
        head = file.read(512)
    seen = describe_head(head) if not (path.suffix == ".gz" and head.startswith(_GZIP)) else ""
    hint = f". The file {seen}" if seen else ""
    raise ValueError(f"{path}: {found}; expected {expected}{hint}. Remove it and get it again")


def printable(text: str, limit: int = 80) -> str:
    """Text of a stranger, fit for a screen: short, and without line breaks or escape sequences."""
    shown = "".join(each if each.isprintable() else "?" for each in text[: limit + 1])
    return shown if len(text) <= limit else f"{shown[:limit]}..."


def describe_head(head: bytes) -> str:
    """What a file's first bytes say of it, or nothing if they are unremarkable."""
    if not head:
        return "is empty"
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head", b"<!--")):
        return "is a web page (an error page of a download, perhaps)"
    if not head.strip(b"\0"):
        return "begins with zeros, as one whose download was cut off"
    return next((f"is {what}" for first, what in _SIGNATURES if head.startswith(first)), "")


class Reader:
    """Bytes of a file, or of what its gzip compression holds, never more than are asked for.

    `exactly` raises ValueError where the file ends too early or its compression is damaged;
    `expect_end` where it goes on.
    """

    def __init__(self, path: Path, *, compressed: bool) -> None:
        self.path = path
        self._file = _open(path)
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
        except OSError as error:
            refuse(self.path, f"it cannot be read ({error.strerror})", "a regular file")
