"""What the check of headers has found, kept for the next start in $XDG_CACHE_HOME/dltrain.

One file for a folder of images, in a format of its own: a digest, then columns of numbers and
names. It is never trusted: a file that is not whole and plausible is as good as none.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from dltrain.data.download import replacing
from dltrain.data.folder_scan import Files
from dltrain.data.listing import FORMATS, KIND, MAX_PIXELS, MODES, Names

VARIABLE = "DLTRAIN_CACHE"  # a folder, or `off`
BAD_LIST = ".bad.txt"  # beside it: what `skip` has left out
_MAGIC = b"dltrain headers 1\n".ljust(32)
_DIGEST = 32
_MAX_ENTRIES = 64  # the oldest go
_LEAST_LIMIT = 1 << 20  # bytes
_ROW = 3 * 8 + KIND.itemsize
Table = tuple[Files, np.ndarray]


def cache_path(root: bytes) -> Path | None:
    """Where the headers of the images below root are kept; None where nothing is to be."""
    folder = cache_folder()
    if folder is None:
        return None
    key = hashlib.blake2b(os.path.realpath(root), digest_size=16).hexdigest()
    return folder / "headers" / f"{key}.bin"


def cache_folder() -> Path | None:
    """DLTRAIN_CACHE, or dltrain's part of the user's cache; None if it is `off`, or has no home."""
    chosen = os.environ.get(VARIABLE)
    if chosen == "off":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.path.expanduser(chosen or os.path.join(base, "dltrain")))
    # Without a home `~` stays. What was typed is meant from here; a relative XDG_CACHE_HOME is not
    # to be heeded (XDG Base Directory Specification)
    unusable = str(folder).startswith("~") or not (chosen or folder.is_absolute())
    return None if unusable else folder.absolute()


def known_kinds(path: Path | None, files: Files) -> tuple[np.ndarray, np.ndarray]:
    """KIND [N] of the files, and for which of them it is known: bool [N].

    It is for a file whose name, size and time are those of the check.
    """
    kinds, known = np.zeros(len(files), KIND), np.zeros(len(files), bool)
    table = _read(path, files) if path is not None else None
    if table is None:
        return kinds, known
    cached, cached_kinds = table
    if cached.names.blob == files.names.blob and np.array_equal(
        cached.names.ends, files.names.ends
    ):
        here = there = np.arange(len(files))
    else:
        here, there = _same_names(files.names, cached.names)
    same = (files.num_bytes[here] == cached.num_bytes[there]) & (
        files.mtime_ns[here] == cached.mtime_ns[there]
    )
    kinds[here] = cached_kinds[there]
    known[here] = same
    kinds[~known] = np.zeros((), KIND)
    return kinds, known


def keep_kinds(path: Path | None, files: Files, kinds: np.ndarray) -> None:
    """For the next start; where it cannot be written, there will be nothing then."""
    if path is None:
        return
    columns = (files.names.ends, files.num_bytes, files.mtime_ns, kinds)
    body = b"".join(
        [np.int64(len(files)).tobytes(), *(np.ascontiguousarray(c).tobytes() for c in columns)]
    )
    body += files.names.blob
    digest = hashlib.blake2b(body, digest_size=_DIGEST).digest()
    with suppress(OSError), replacing(path) as part:
        part.write_bytes(_MAGIC + digest + body)
    _forget_the_oldest(path.parent)


def _read(path: Path, files: Files) -> Table | None:
    """What is in the cache, if it is whole and plausible."""
    # It was made of about these files: what is far larger was not
    limit = max(_LEAST_LIMIT, 4 * (len(files) * _ROW + len(files.names.blob)))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            data = file.read(size) if size <= limit else b""
    except OSError:
        return None
    start = len(_MAGIC) + _DIGEST
    body = memoryview(data)[start:]
    if not data.startswith(_MAGIC) or len(body) < 8:
        return None
    if hashlib.blake2b(body, digest_size=_DIGEST).digest() != data[len(_MAGIC) : start]:
        return None
    return _parse(body)


def _parse(body: memoryview) -> Table | None:
    count = int(np.frombuffer(body, np.int64, 1)[0])
    if not 0 < count <= (len(body) - 8) // _ROW:
        return None
    columns = [np.frombuffer(body, np.int64, count, 8 + 8 * count * place) for place in range(3)]
    ends, num_bytes, mtime_ns = columns
    kinds = np.frombuffer(body, KIND, count, 8 + 24 * count)
    blob = bytes(body[8 + _ROW * count :])
    if ends[-1] != len(blob) or ends[0] < 1 or (np.diff(ends) < 1).any() or not _plausible(kinds):
        return None
    return Files(Names(blob, ends), np.zeros(count, np.int64), num_bytes, mtime_ns), kinds


def _plausible(kinds: np.ndarray) -> bool:
    height, width = kinds["height"].astype(np.int64), kinds["width"].astype(np.int64)
    fits = (height > 0) & (width > 0) & (height * width <= MAX_PIXELS)
    fits &= (kinds["format"] < len(FORMATS)) & (kinds["mode"] < len(MODES))
    return bool((fits & (kinds["orientation"] >= 1) & (kinds["orientation"] <= 8)).all())


def _same_names(names: Names, cached: Names) -> tuple[np.ndarray, np.ndarray]:
    """The places of the names that are in both: int64 [n] here, and there."""
    places = {cached.as_bytes(place): place for place in range(len(cached))}
    pairs = [
        (place, places[name])
        for place in range(len(names))
        if (name := names.as_bytes(place)) in places
    ]
    here, there = np.array(pairs, np.int64).reshape(-1, 2).T
    return here, there


def _forget_the_oldest(folder: Path) -> None:
    with suppress(OSError):
        entries = sorted(folder.glob("*.bin"), key=lambda each: each.stat().st_mtime)
        for path in entries[:-_MAX_ENTRIES]:
            path.unlink()
            path.with_suffix(BAD_LIST).unlink(missing_ok=True)
