"""Published files from their mirrors: checked, and under their name only once they are whole."""

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dltrain.data.files import naming, printable

if TYPE_CHECKING:
    from http.client import HTTPResponse

# Called as progress(file name, bytes so far, bytes in all); where files are checked, as
# progress("... images", how many so far, how many in all).
Progress = Callable[[str, int, int], None]

_PIECE = 1 << 18
_TIMEOUT_SEC = 30
# In each such time: less than that, and a file of MNIST would take hours.
_SLOWEST_BYTES = 1 << 15


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


def fetch(url: str, path: Path, *, limit: int) -> None:
    """What an http address answers, into path. Raises OSError, also where it is over the limit."""
    try:
        with path.open("wb") as file:
            for piece in _pieces(url):
                if file.tell() + len(piece) > limit:
                    raise OSError(f"{url}: more than {limit:,} bytes came")
                file.write(piece)
    except _MirrorError as error:
        raise OSError(f"{url}: {error}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside path; what is written there takes path's place if nothing fails.

    Folders that are lacking are made, and taken away again if something fails.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    new_folders = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        with suppress(OSError):  # another process has put something there
            for folder in new_folders:
                folder.rmdir()
        raise


def _fetch(url: str, remote: Remote, part: Path, progress: Progress | None) -> None:
    algorithm, _, expected = remote.checksum.partition(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    size = 0
    if progress is not None:
        progress(remote.name, 0, remote.size)  # a slow mirror may take its time to answer
    with naming(part, f"{remote.name} has {remote.size:,} bytes"), part.open("xb") as file:
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
            yield from _not_too_slow(response)
    except (OSError, HTTPException) as error:
        raise _MirrorError(printable(str(error) or type(error).__name__, 200)) from error


def _not_too_slow(response: "HTTPResponse") -> Iterator[bytes]:
    """The timeout of a socket begins anew with every byte: a drip would hold us for ever."""
    deadline, left = time.monotonic() + _TIMEOUT_SEC, _SLOWEST_BYTES
    while piece := response.read1(_PIECE):
        yield piece
        left -= len(piece)
        if time.monotonic() < deadline:
            continue
        if left > 0:
            raise TimeoutError(f"less than {_SLOWEST_BYTES:,} bytes came in {_TIMEOUT_SEC} s")
        deadline, left = time.monotonic() + _TIMEOUT_SEC, _SLOWEST_BYTES
