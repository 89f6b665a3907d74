"""IDX, the format of MNIST: a magic number, big-endian sizes, then bytes."""

import math
import struct
from pathlib import Path

import numpy as np

from dltrain.data.files import Reader, refuse

_MAX_COUNT = 10_000_000


def read_count(path: Path, shape: tuple[int, ...]) -> int:
    """How many samples of that shape a file announces; of the file, only its header is read."""
    with Reader(path, compressed=_is_compressed(path)) as file:
        return _read_header(file, shape)


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 [N, *shape] from a file, raw or (by its name) `.gz`.

    N is what the file announces, and is held to what it contains. Raises ValueError for any other
    file, without reading more of it than the announced bytes.
    """
    with Reader(path, compressed=_is_compressed(path)) as file:
        count = _read_header(file, shape)
        what = f"{count:,} samples"
        data = file.exactly(count * math.prod(shape), what)
        file.expect_end(what)
    return np.frombuffer(data, np.uint8).reshape(count, *shape)


def _is_compressed(path: Path) -> bool:
    return path.suffix == ".gz"


def _read_header(file: Reader, shape: tuple[int, ...]) -> int:
    num_dims = 1 + len(shape)
    header = bytes(file.exactly(4 + 4 * num_dims, "header"))
    magic = bytes([0, 0, 8, num_dims])
    if header[:4] != magic:
        found = f"its magic number is {header[:4].hex()}"
        refuse(file.path, found, f"{magic.hex()} (IDX, bytes, {num_dims} dimensions)")
    count, *sizes = struct.unpack(f">{num_dims}I", header[4:])
    if tuple(sizes) != shape:
        refuse(file.path, f"it announces samples of shape {sizes}", f"{list(shape)}")
    if not 0 < count <= _MAX_COUNT:
        refuse(file.path, f"it announces {count:,} samples", f"1 to {_MAX_COUNT:,}")
    return int(count)
