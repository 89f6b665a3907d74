"""Any number of image files, read by worker processes as they are named, in their order."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dltrain.data.files import printable
from dltrain.data.image_paths import MAX_PATH
from dltrain.data.shared import shared
from dltrain.data.unseen import Unseen
from dltrain.data.workers import Readers

_MAX_REASON = 300  # bytes
_NUM_AHEAD = 2  # batches that are being read while one is predicted


class Files(NamedTuple):
    """Some of the files: their paths, what is wrong with each (or nothing), the good ones' pixels.

    samples: uint8 [n, C, H, W] of those with no reason, good until the next are asked for.
    """

    paths: list[bytes]
    reasons: list[str]
    samples: np.ndarray


def read_files(
    paths: Iterator[bytes],
    unseen: Unseen,
    *,
    batch_size: int,
    num_workers: int,
    channels_last: bool,
) -> Iterator[Files]:
    """All of `paths`, `batch_size` at a time; memory is that of a few batches, whatever comes.

    Raises WorkerError where a file kills the process that reads it.
    """
    source = _Files(unseen, (1 + _NUM_AHEAD) * batch_size)
    readers = Readers(source, batch_size=batch_size, num_ahead=_NUM_AHEAD, num_workers=num_workers)
    under_way: deque[list[bytes]] = deque()
    try:
        while True:
            while readers.has_room and (part := next_part(paths, batch_size, bool(under_way))):
                readers.ask(None, source.place(part)[:, None])
                under_way.append(part)
            if not under_way:
                return
            answers, part = readers.take(), under_way.popleft()
            reasons = [bytes(each).decode(errors="replace") for each in answers["reason"]]
            good = np.array([not reason for reason in reasons], bool)
            stored = answers["pixels"][good]  # [n, H, W, C], a copy
            samples = stored.transpose(0, 3, 1, 2)
            yield Files(part, reasons, samples if channels_last else np.ascontiguousarray(samples))
    finally:
        readers.close()


def next_part(paths: Iterator[bytes], size: int, has_others: bool) -> list[bytes]:
    """At most `size` of them, fewer where no more come for a moment (which is an empty path); none
    at their end, or where the others that are under way can be taken meanwhile."""
    part: list[bytes] = []
    for path in paths:
        if path:
            part.append(path)
        elif part or has_others:
            break
        if len(part) == size:
            break
    return part


class _Files:
    """A `Source` of pixels and reasons. Workers learn the paths through shared memory."""

    channels_last = False
    shape: tuple[int, ...] = ()

    def __init__(self, unseen: Unseen, capacity: int) -> None:
        channels, height, width = unseen.shape
        self.dtype = np.dtype(
            [("pixels", np.uint8, (height, width, channels)), ("reason", f"S{_MAX_REASON}")]
        )
        self._unseen = unseen
        self._paths = shared((capacity,), np.dtype(f"S{MAX_PATH}"))
        self._next = 0

    def place(self, paths: list[bytes]) -> np.ndarray:
        """Where they are from now on, until as many others have come as there is room for."""
        places = (self._next + np.arange(len(paths))) % len(self._paths)
        self._next = (self._next + len(paths)) % len(self._paths)
        self._paths[places] = paths
        return places

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int, out: np.ndarray, *box: int) -> None:
        out["reason"] = b""
        path = bytes(self._paths[index])
        try:
            if len(path) >= MAX_PATH:
                raise ValueError("its path is too long")
            self._unseen.read_file(path.decode("utf-8", "surrogateescape"), out_of(out))
        except (ValueError, OSError) as error:
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            out["reason"] = (reason or type(error).__name__).encode(errors="replace")[:_MAX_REASON]

    def describe(self, index: int) -> str:
        return printable(bytes(self._paths[index]).decode(errors="replace"), 200)


def out_of(record: np.ndarray) -> np.ndarray:
    """The pixels of a record as [C, H, W]."""
    pixels: np.ndarray = record["pixels"]
    return pixels.transpose(2, 0, 1)
