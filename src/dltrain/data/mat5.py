"""Arrays of numbers from a MATLAB 5 file, in memory bounded by the arrays that are asked for.

Format: "MAT-File Format", The MathWorks, chapter 1. scipy.io.loadmat reads far more of it, but
allocates what a file claims, and a few kilobytes can claim gigabytes.
"""

import math
import os
import struct
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
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
_MAX_DIMENSIONS, _MAX_NAME, _MAX_ELEMENTS = 32, 64, 1000
_PADDING = 8  # parts begin at multiples of it
_PIECE = 1 << 20


def read_shapes(path: Path, names: Collection[str]) -> dict[str, tuple[int, ...]]:
    """The shapes of those of the named variables that a file announces. No array is read."""
    with open_file(path) as file, _refusing(path):
        return {name: shape for name, shape, _ in _walk(file, names)}


def read_mat5(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """The named variables, arrays of real numbers, in the type and shape they are stored in.

    What the file has under other names is passed over. Raises ValueError for any other file.
    """
    with open_file(path) as file, _refusing(path):
        return {
            name: element.read_numbers(name, shape) for name, shape, element in _walk(file, names)
        }


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except _DamagedError as error:
        refuse(path, str(error), _EXPECTED)
    except (struct.error, zlib.error, ValueError) as error:
        refuse(path, f"it is damaged ({error})", _EXPECTED)


def _walk(
    file: BinaryIO, names: Collection[str]
) -> Iterator[tuple[str, tuple[int, ...], "_Element"]]:
    """Name, shape and the element of each of the named variables; all others are passed over."""
    order = _byte_order(file.read(128))
    file_size = os.fstat(file.fileno()).st_size
    seen: set[str] = set()
    for _ in range(_MAX_ELEMENTS):
        tag = file.read(8)
        if not tag:
            return
        kind, size = struct.unpack(f"{order}II", tag)
        end = file.tell() + size
        if kind not in (_COMPRESSED, _MATRIX):
            raise _DamagedError(f"it has an element of type {kind}")
        if end > file_size:
            raise _DamagedError(f"it ends {end - file_size:,} bytes too early")
        element = _Element(file, size, order, compressed=kind == _COMPRESSED)
        name, shape = element.read_description()
        if name in names:
            if name in seen:
                raise _DamagedError(f"it has `{name}` twice")
            seen.add(name)
            element.check_class(name)
            yield name, shape, element
        file.seek(end)
    raise _DamagedError(f"it has more than {_MAX_ELEMENTS:,} variables")


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
        self._flags = 0
        self._inflater = zlib.decompressobj() if compressed else None

    def read_description(self) -> tuple[str, tuple[int, ...]]:
        """Name and shape of the matrix."""
        if self._inflater is not None:
            (kind, _) = struct.unpack(f"{self._order}II", self._exactly(8))
            if kind != _MATRIX:
                raise _DamagedError(f"it has a compressed element of type {kind}")
        self._flags, _ = struct.unpack(f"{self._order}II", self._short(8))
        dimensions = self._short(4 * _MAX_DIMENSIONS)
        shape = struct.unpack(f"{self._order}{len(dimensions) // 4}i", dimensions)
        return self._short(_MAX_NAME).decode("ascii", "replace"), shape

    def check_class(self, name: str) -> None:
        if self._flags & 0xFF not in _NUMERIC_CLASSES or self._flags & _COMPLEX:
            raise _DamagedError(f"its `{name}` is not an array of real numbers")

    def read_numbers(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """What follows the description: numbers, and nothing else."""
        kind, size, packed = self._tag()
        if kind not in _NUMBERS or min(shape, default=-1) < 0:
            raise _DamagedError(f"its `{name}` is not an array of real numbers")
        dtype = np.dtype(self._order + _NUMBERS[kind])
        if size != math.prod(shape) * dtype.itemsize or size > MAX_BYTES:
            raise _DamagedError(f"its `{name}` of shape {list(shape)} has {size:,} bytes")
        data = bytearray(packed[:size]) if packed else self._exactly(size)
        self._finish()
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
        """Only padding follows. The end of a compressed element compares its checksum."""
        padding = 0
        while self._inflater is not None and (rest := self._some(_PADDING)):
            padding += len(rest)
            if padding >= _PADDING:
                raise _DamagedError("it goes on after its numbers")
        if self._inflater is not None and not self._inflater.eof:
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
