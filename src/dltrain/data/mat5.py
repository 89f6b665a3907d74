"""Arrays of numbers from a MATLAB 5 file, in memory bounded by the arrays that are asked for.

Format: "MAT-File Format", The MathWorks, chapter 1. scipy.io.loadmat reads far more of it, but
allocates what a file claims, and a few kilobytes can claim gigabytes.
"""

import math
import struct
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dltrain.data.files import MAX_BYTES, open_file, refuse

_EXPECTED = "a MATLAB 5 file (save -v6 or -v7)"
_COMPRESSED, _MATRIX = 15, 14
_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_NUMERIC_CLASSES = range(6, 16)  # mxDOUBLE_CLASS to mxUINT64_CLASS
_COMPLEX = 0x0800
_MAX_DIMENSIONS, _MAX_NAME = 32, 64
_PIECE = 1 << 20


def read_mat5(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """The named variables, arrays of real numbers, in the type and shape they are stored in.

    What the file has under other names is passed over. Raises ValueError for any other file.
    """
    arrays: dict[str, np.ndarray] = {}
    with open_file(path) as file:
        try:
            order = _byte_order(file.read(128))
            while len(arrays) < len(names) and (tag := file.read(8)):
                kind, size = struct.unpack(f"{order}II", tag)
                end = file.tell() + size
                if kind not in (_COMPRESSED, _MATRIX):
                    raise _DamagedError(f"it has an element of type {kind}")
                element = _Element(file, size, order, compressed=kind == _COMPRESSED)
                arrays |= element.read_matrix(names)
                file.seek(end)
        except _DamagedError as error:
            refuse(path, str(error), _EXPECTED)
        except (struct.error, zlib.error) as error:
            refuse(path, f"it is damaged ({error})", _EXPECTED)
    return arrays


class _DamagedError(Exception):
    """The file is not what its format says."""


def _byte_order(header: bytes) -> str:
    version = header[124:128]
    if version == b"\x00\x01IM":
        return "<"
    if version == b"\x01\x00MI":
        return ">"
    raise _DamagedError("it does not begin as a MATLAB 5 file does")


class _Element:
    """One top-level element, read from its beginning, never beyond its end."""

    def __init__(self, file: BinaryIO, size: int, order: str, *, compressed: bool) -> None:
        self._file = file
        self._left = size
        self._order = order
        self._inflater = zlib.decompressobj() if compressed else None

    def read_matrix(self, names: Collection[str]) -> dict[str, np.ndarray]:
        """The matrix by its name, or nothing if that is not one of names."""
        if self._inflater is not None:
            (kind, _) = struct.unpack(f"{self._order}II", self._exactly(8))
            if kind != _MATRIX:
                return {}
        flags, _ = struct.unpack(f"{self._order}II", self._short(8))
        dimensions = self._short(4 * _MAX_DIMENSIONS)
        shape = struct.unpack(f"{self._order}{len(dimensions) // 4}i", dimensions)
        name = self._short(_MAX_NAME).decode("ascii", "replace")
        if name not in names:
            return {}
        if flags & 0xFF not in _NUMERIC_CLASSES or flags & _COMPLEX:
            raise _DamagedError(f"its `{name}` is not an array of real numbers")
        numbers = self._numbers(name, shape)
        self._finish()
        return {name: numbers}

    def _numbers(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        kind, size, packed = self._tag()
        if kind not in _NUMBERS or min(shape, default=-1) < 0:
            raise _DamagedError(f"its `{name}` is not an array of real numbers")
        dtype = np.dtype(self._order + _NUMBERS[kind])
        if size != math.prod(shape) * dtype.itemsize or size > MAX_BYTES:
            raise _DamagedError(f"its `{name}` of shape {list(shape)} has {size:,} bytes")
        data = bytearray(packed[:size]) if packed else self._exactly(size)
        return np.frombuffer(data, dtype).reshape(shape, order="F")

    def _tag(self) -> tuple[int, int, bytes]:
        """Type, size in bytes, and the data itself where it is packed into the tag."""
        tag = bytes(self._exactly(8))
        kind, size = struct.unpack(f"{self._order}II", tag)
        if kind >> 16:
            return kind & 0xFFFF, kind >> 16, tag[4:]
        return kind, size, b""

    def _short(self, limit: int) -> bytes:
        """A part of the matrix's description, with the padding to 8 bytes that follows it."""
        _, size, packed = self._tag()
        if size > limit or (packed and size > len(packed)):
            raise _DamagedError(f"its description has a part of {size:,} bytes")
        return packed[:size] if packed else bytes(self._exactly(-(-size // 8) * 8)[:size])

    def _finish(self) -> None:
        """Reaching the end of a compressed element compares its checksum."""
        while self._inflater is not None and not self._inflater.eof:
            if not self._some(8) and not self._inflater.eof:
                raise _DamagedError("its compression has no end")

    def _exactly(self, num_bytes: int) -> bytearray:
        data = bytearray()
        while len(data) < num_bytes:
            piece = self._some(min(_PIECE, num_bytes - len(data)))
            if not piece:
                raise _DamagedError(f"it ends after {len(data):,} of {num_bytes:,} bytes")
            data += piece
        return data

    def _some(self, limit: int) -> bytes:
        """1 to limit bytes, or none at the end."""
        if self._inflater is None:
            return self._raw(limit)
        while not self._inflater.eof:
            feed = self._inflater.unconsumed_tail or self._raw(_PIECE)
            piece = self._inflater.decompress(feed, limit)
            if piece or not feed:
                return piece
        return b""

    def _raw(self, limit: int) -> bytes:
        piece = self._file.read(min(limit, self._left))
        self._left -= len(piece)
        return piece
