"""IDX, the format of MNIST: a magic number, big-endian sizes, then bytes."""

from pathlib import Path

import numpy as np

from dltrain.data.files import Reader, refuse

_MAX_COUNT = 10_000_000


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 [N, *shape] from a file, raw or (by its name) `.gz`.

    N is what the file announces, and is held to what it contains. Raises ValueError for any other
    file, without reading more of it than the announced bytes.
    """
    num_dims = 1 + len(shape)
    with Reader(path, compressed=path.suffix == ".gz") as file:
        header = bytes(file.exactly(4 + 4 * num_dims, "header"))
        magic = bytes([0, 0, 8, num_dims])
        if header[:4] != magic:
            found = f"its magic number is {header[:4].hex()}"
            refuse(path, found, f"{magic.hex()} (IDX, bytes, {num_dims} dimensions)")
        count, *sizes = np.frombuffer(header, ">u4", offset=4).tolist()
        if tuple(sizes) != shape:
            refuse(path, f"it announces samples of shape {sizes}", f"{list(shape)}")
        if not 0 < count <= _MAX_COUNT:
            refuse(path, f"it announces {count:,} samples", f"1 to {_MAX_COUNT:,}")
        what = f"{count:,} samples"
        data = file.exactly(count * int(np.prod(shape, dtype=np.int64)), what)
        file.expect_end(what)
    return np.frombuffer(data, np.uint8).reshape(count, *shape)
