"""Which image files a user has named: one by one, by folder, or as a list from a pipe."""

import os
import select
from collections.abc import Iterable, Iterator
from io import BufferedIOBase

from dltrain.data.folder_scan import MAX_DEPTH, SUFFIXES

MAX_PATH = 4096  # bytes, with the NUL that ends it: PATH_MAX of Linux
_CHUNK = 1 << 16
_PAUSE_SEC = 0.2


def expand(paths: Iterable[bytes]) -> Iterator[bytes]:
    """Each path as it is; a folder as the image files in it, however deep, in the order of names.

    In memory are the names of the folders that lead to one file, never those of all. Links are
    followed, but not to a folder that they are in.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _within(path, [_identity(path)])
        else:
            yield path


def _within(folder: bytes, above: list[tuple[int, int]]) -> Iterator[bytes]:
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        yield folder  # to be named as one that cannot be read
        return
    for name in entries:
        path = os.path.join(folder, name)
        if name.startswith(b"."):
            continue
        if os.path.isdir(path):
            identity = _identity(path)
            if identity not in above and len(above) < MAX_DEPTH:
                yield from _within(path, [*above, identity])
        elif os.path.splitext(name)[1][1:].lower() in SUFFIXES:
            yield path


def _identity(path: bytes) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _pauses(file: BufferedIOBase) -> Iterator[bytes]:
    """An empty path each time that nothing has come; of what is no pipe, none."""
    try:
        number = file.fileno()
    except (OSError, AttributeError):  # in memory
        return
    while not select.select([number], [], [], _PAUSE_SEC)[0]:
        yield b""


def listed(file: BufferedIOBase) -> Iterator[bytes]:
    """The paths in a file, one a line; or separated by NUL, where there is one at its beginning.

    As `find` and `find -print0` give them; a pipe that gives a line now and a line later is not
    waited for: where nothing comes for a moment there is an empty path. What is longer than any
    path is cut.
    """
    yield from _pauses(file)
    chunk = file.read1(_CHUNK)
    separator, end = (b"\0", b"") if b"\0" in chunk else (b"\n", b"\r")
    rest = b""
    while chunk:
        *whole, rest = (rest + chunk).split(separator)
        yield from (path for each in whole if (path := each.rstrip(end)))
        rest = rest[: 2 * MAX_PATH]
        yield from _pauses(file)
        chunk = file.read1(_CHUNK)
    if path := rest.rstrip(end):
        yield path
