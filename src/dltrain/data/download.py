"""Published files from their mirrors: checked, and under their name only once they are whole."""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

# Called as progress(file name, bytes so far, bytes in all).
Progress = Callable[[str, int, int], None]

_PIECE = 1 << 18
_TIMEOUT_SEC = 30


class Remote(NamedTuple):
    """A file as its publisher has it. `checksum` is `md5:...` or `sha256:...`; size is in bytes."""

    name: str
    urls: tuple[str, ...]
    size: int
    checksum: str


class _MirrorError(Exception):
    """This mirror does not have the file as it was published; the next one may."""


def download(remote: Remote, folder: Path, progress: Progress | None = None) -> Path:
    """The file in the folder, from the first mirror that has it whole.

    Raises FileNotFoundError that names each mirror's failure. A full disk or a forbidden folder
    stays an OSError. Nothing is left behind by a failure or an interruption.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / remote.name
    failures = []
    for url in remote.urls:
        try:
            with replacing(path) as part:
                _fetch(url, remote, part, progress)
            return path
        except _MirrorError as error:
            failures.append(f"  {url}: {error}")
    raise FileNotFoundError(
        f"{remote.name} could not be downloaded:\n"
        + "\n".join(failures)
        + f"\nFetch it by other means and put it into {folder.absolute()}"
    )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside path; what is written there takes path's place if nothing fails."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _fetch(url: str, remote: Remote, part: Path, progress: Progress | None) -> None:
    algorithm, _, expected = remote.checksum.partition(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    size = 0
    with part.open("xb") as file:
        for piece in _pieces(url):
            size += len(piece)
            if size > remote.size:
                raise _MirrorError(f"more than the expected {remote.size:,} bytes came")
            file.write(piece)
            digest.update(piece)
            if progress is not None:
                progress(remote.name, size, remote.size)
    if size != remote.size:
        raise _MirrorError(f"{size:,} of the expected {remote.size:,} bytes came")
    if digest.hexdigest() != expected:
        raise _MirrorError(f"its {algorithm} is {digest.hexdigest()}, expected {expected}")


def _pieces(url: str) -> Iterator[bytes]:
    """The body of an answer. Only the network's failures are the mirror's: a full disk is not."""
    import urllib.request  # 20 ms, which only a download should pay
    from http.client import HTTPException

    if not url.startswith(("https://", "http://")):
        raise _MirrorError("not an http address")
    request = urllib.request.Request(url, headers={"User-Agent": "dltrain"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SEC) as response:
            while piece := response.read(_PIECE):
                yield piece
    except (OSError, HTTPException) as error:
        raise _MirrorError(str(error) or type(error).__name__) from error
