"""TensorBoard's event files: framing, order in a directory, and cutting one back.

An event file is a TFRecord: length as uint64, masked CRC-32C of the length, data, masked CRC-32C of
the data, all little-endian (`tensorflow/tensorflow: tensorflow/core/lib/io/record_writer.h`).
Written here, because what TensorBoard and torch offer for it costs 0.2 s and more to import.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from dltrain.durable import naming

PREFIX = "events.out.tfevents."
HEADER_BYTES, FOOTER_BYTES = 12, 4
POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reversed
MASK_DELTA = 0xA282EAD8


def _make_tables() -> list[list[int]]:
    """Four tables for four bytes at a time ("slicing by 4", Kounavis & Berry 2005)."""
    first = list(range(256))
    for _ in range(8):
        first = [(n >> 1) ^ (POLYNOMIAL if n & 1 else 0) for n in first]
    tables = [first]
    for _ in range(3):
        tables.append([first[n & 255] ^ (n >> 8) for n in tables[-1]])
    return tables


_T0, _T1, _T2, _T3 = _make_tables()  # 0.3 ms


BLOCK = 256  # bytes


def crc32c(data: bytes) -> int:
    """CRC-32C of `data`: about 60 ns a byte in Python, 4 ns in numpy, for which short ones are
    too short."""
    if len(data) < 8 * BLOCK:
        return crc_of(data)
    import numpy as np  # of runs that write pictures, which have it already

    tables = _tables_of_block()
    num_blocks = len(data) // BLOCK
    blocks = np.frombuffer(data, np.uint8, num_blocks * BLOCK).reshape(num_blocks, BLOCK)
    own = np.bitwise_xor.reduce(tables[np.arange(BLOCK), blocks], axis=1).tolist()
    # By so many zeros a CRC moves as the first four bytes of a block do
    t0, t1, t2, t3 = (tables[position].tolist() for position in range(4))
    crc = 0xFFFFFFFF
    for each in own:
        crc = t0[crc & 255] ^ t1[crc >> 8 & 255] ^ t2[crc >> 16 & 255] ^ t3[crc >> 24] ^ each
    return crc_of(data[num_blocks * BLOCK :], crc ^ 0xFFFFFFFF)


@cache
def _tables_of_block() -> Any:
    """uint32 [BLOCK, 256]: what a byte at each place of a block does to the CRC of the block; 1 ms.

    A CRC is linear: that of a block is the sum (exclusive or) of those of its bytes.
    """
    import numpy as np

    first = np.array(_T0, dtype=np.uint32)
    tables = np.empty((BLOCK, 256), dtype=np.uint32)
    tables[-1] = first
    for position in range(BLOCK - 2, -1, -1):
        after = tables[position + 1]
        tables[position] = (after >> 8) ^ first[after & 255]
    return tables


def crc_of(data: bytes, before: int = 0) -> int:
    """Word by word; `before` is that of what precedes."""
    crc, t0, t1, t2, t3 = before ^ 0xFFFFFFFF, _T0, _T1, _T2, _T3
    num_words = len(data) // 4
    for word in struct.unpack_from(f"<{num_words}I", data):
        crc ^= word
        crc = t3[crc & 255] ^ t2[crc >> 8 & 255] ^ t1[crc >> 16 & 255] ^ t0[crc >> 24]
    for byte in data[4 * num_words :]:
        crc = t0[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _masked_crc(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF)


def frame(data: bytes) -> bytes:
    """`data` as one record."""
    length = struct.pack("<Q", len(data))
    return length + _masked_crc(length) + data + _masked_crc(data)


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """(offset where the record begins, data) of every whole record before the first damaged one."""
    with path.open("rb") as file:
        size, offset = os.fstat(file.fileno()).st_size, 0
        while len(header := file.read(HEADER_BYTES)) == HEADER_BYTES:
            (length,) = struct.unpack_from("<Q", header)
            end = offset + HEADER_BYTES + length + FOOTER_BYTES
            if end > size or _masked_crc(header[:8]) != header[8:]:
                return
            data = file.read(length)
            if _masked_crc(data) != file.read(FOOTER_BYTES):
                return
            yield offset, data
            offset = end


def event_files(run_dir: Path) -> list[Path]:
    """The event files directly in `run_dir`, in the order in which TensorBoard reads them."""
    paths = (path for path in run_dir.glob(PREFIX + "*") if not path.is_symlink())
    return sorted(path for path in paths if path.is_file())


def new_event_path(run_dir: Path, existing: list[Path], now_sec: float) -> Path:
    """A name that sorts after every one in `existing`: TensorBoard reads files by name.

    So the time in it runs ahead of the clock where two files begin in one second, and where a run
    goes on under a clock that is behind.
    """
    times = [path.name[len(PREFIX) :].partition(".")[0] for path in existing]
    newest = max((int(time) for time in times if time.isdecimal()), default=-1)
    stamp = max(int(now_sec), newest + 1)
    host = socket.gethostname().replace("/", "_")
    return run_dir / f"{PREFIX}{stamp:010d}.{host}.{os.getpid()}.0"


def truncate(path: Path, num_bytes: int) -> None:
    """Cuts `path` to `num_bytes`; never makes it longer."""
    if 0 <= num_bytes < path.stat().st_size:
        os.truncate(path, num_bytes)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Puts `data` in the place of a record of the same length, which begins at `offset`."""
    record = frame(data)
    with naming(path, len(record)), path.open("r+b") as file:
        file.seek(offset)
        assert file.read(8) == record[:8], "a record of another length"
        file.seek(offset)
        file.write(record)
        file.flush()
        os.fsync(file.fileno())


class EventFile:
    """A new event file, written in order and buffered; `flush` hands it to the operating system.

    Raises:
        FileExistsError: `path` exists; a file of another process is never appended to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_bytes = 0
        self._file = path.open("xb", buffering=1 << 16)

    def write(self, data: bytes) -> None:
        """Appends one serialized event."""
        with naming(self.path, len(data)):
            self.num_bytes += self._file.write(frame(data))

    def flush(self) -> None:
        with naming(self.path, self.num_bytes):
            self._file.flush()

    def sync(self) -> None:
        """Makes durable what was flushed; from any thread."""
        with naming(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with naming(self.path, self.num_bytes):
            self._file.close()
