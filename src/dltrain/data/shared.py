"""Memory that forks share, laid out for samples."""

import math
import mmap

import numpy as np

from dltrain.data.source import Source


def shared(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that forks share. Raises MemoryError."""
    num_bytes = math.prod(shape) * dtype.itemsize
    try:
        return np.frombuffer(mmap.mmap(-1, num_bytes), dtype).reshape(shape)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"{num_bytes:,} bytes for batches: {error}") from error


def slots(shape: tuple[int, ...], source: Source) -> np.ndarray:
    """Room for batches of samples of source.shape, in the order of its bytes in memory."""
    if not source.channels_last:
        return shared(shape, source.dtype)
    *before, channels, height, width = shape
    return np.moveaxis(shared((*before, height, width, channels), source.dtype), -1, -3)
