"""Memory that forks share, laid out for samples."""

import math
import mmap
from collections.abc import Callable

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
    return laid_out(shape, source, shared)


def laid_out(
    shape: tuple[int, ...],
    source: Source,
    make: Callable[[tuple[int, ...], np.dtype], np.ndarray],
) -> np.ndarray:
    """[..., *source.shape], made by `make` in the order of the bytes that the source writes."""
    if not source.channels_last:
        return make(shape, source.dtype)
    *before, channels, height, width = shape
    return np.moveaxis(make((*before, height, width, channels), source.dtype), -1, -3)
