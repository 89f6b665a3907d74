"""A whole dataset into memory, by as many processes as there are cores for it."""

import numpy as np

from dltrain.data.download import Progress
from dltrain.data.shared import laid_out
from dltrain.data.source import Source
from dltrain.data.workers import Readers

_AT_ONCE = 64  # samples


def read_all(
    source: Source, name: str, *, num_workers: int, progress: Progress | None = None
) -> np.ndarray:
    """Every sample of `source` in memory, [N, *shape], in the order of its bytes.

    progress(name, done, of) is called after every batch. Raises WorkerError and MemoryError.
    """
    total = len(source)
    samples = laid_out((total, *source.shape), source, np.empty)
    index = np.arange(total)[:, None]
    readers = Readers(source, batch_size=_AT_ONCE, num_ahead=2, num_workers=num_workers)
    try:
        asked = 0
        for done in range(0, total, _AT_ONCE):
            while readers.has_room and asked < total:
                readers.ask(asked, index[asked : asked + _AT_ONCE])
                asked += _AT_ONCE
            samples[done : done + _AT_ONCE] = readers.take()
            if progress is not None:
                progress(name, min(done + _AT_ONCE, total), total)
    finally:
        readers.close()
    return samples
