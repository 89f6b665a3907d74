"""A .pth file's tensors without unpickling it: nothing it names is looked up, nothing is called.

`torch.load(weights_only=True)` runs no code either, but a file of a kilobyte makes it allocate
gigabytes (bytearray(n), deflated records, text of a claimed length), and what it says of a refused
file is to try again without the restriction. Here tensors are views of the mapped file.

Formats: torch/serialization.py `_save` (zip, stored) and `_legacy_save`; opcodes: pickletools.py.
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAX_PICKLE_BYTES = 8 << 20  # tensors are not in it: a name and some 40 opcodes for each
MAX_OPCODES = 1_000_000
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {
    f"torch {name}Storage": dtype
    for name, dtype in {
        "Double": torch.float64, "Float": torch.float32, "Half": torch.float16,
        "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32, "Short": torch.int16,
        "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool,
    }.items()
}  # fmt: skip


def read_pth(path: Path) -> Any:
    """What `torch.save` wrote, as dicts, lists, scalars and tensors; any other object is an Other.

    Raises ValueError (LookupError, struct.error, BadZipFile) where it is no such file.
    """
    with open(path, "rb") as file:
        if file.read(1) == b"":
            raise ValueError("it is empty")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return _read_zip(path, data) if data[:4] == b"PK\3\4" else _read_legacy(data)


@dataclass(frozen=True)
class Other:
    """Something in a file that is no plain data: its name alone."""

    name: str


class _Storage:
    """Numbers in the file: where they begin is known at once (zip) or later (legacy)."""

    def __init__(self, dtype: torch.dtype, numel: int) -> None:
        self.dtype, self.numel, self.tensor = dtype, numel, torch.empty(0, dtype=dtype)

    def place(self, data: mmap.mmap, offset: int) -> int:
        """Takes its bytes at `offset`; says where they end."""
        end = offset + self.numel * self.dtype.itemsize
        if not 0 <= offset <= end <= len(data):
            raise ValueError("a tensor has fewer bytes than it claims")
        if self.numel:
            self.tensor = torch.frombuffer(data, dtype=self.dtype, count=self.numel, offset=offset)
        return end


class _View:
    """A tensor that is made once its storage has been placed."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any) -> None:
        numbers = (offset, *size, *stride)
        if not isinstance(storage, _Storage) or len(size) != len(stride) or len(size) > 64:
            raise ValueError("it has a tensor without numbers")
        if not all(isinstance(n, int) and 0 <= n < 1 << 62 for n in numbers):
            raise ValueError("it has a tensor with a shape that is none")
        reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
        if math.prod(size) and (reach > storage.numel or math.prod(size) > storage.numel):
            raise ValueError("it has a tensor that is larger than its numbers")
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def tensor(self) -> Tensor:
        if not math.prod(self.size):
            return torch.empty(self.size, dtype=self.storage.dtype)
        return self.storage.tensor.as_strided(self.size, self.stride, self.offset)


# ---------------------------------------------------------------------- the two formats


def _read_zip(path: Path, data: mmap.mmap) -> Any:
    if _directory_size(data) > MAX_PICKLE_BYTES:
        raise ValueError("it has more records than weights need")
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    if "data.pkl" not in entries or "constants.pkl" in entries:
        raise ValueError("it is a zip, but not one of torch.save")

    def place(name: str) -> tuple[int, int]:
        """Offset and length of a record, which torch never compresses."""
        info = entries[name]
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"its record {name[:40]} is compressed, which torch never does")
        at = info.header_offset
        return at + 30 + sum(struct.unpack_from("<HH", data, at + 26)), info.file_size

    def record(name: str) -> bytes:
        offset, length = place(name)
        if length > MAX_PICKLE_BYTES:
            raise ValueError(f"its {name} has {length:,} bytes")
        return data[offset : offset + length]

    if "byteorder" in entries and record("byteorder") != b"little":
        raise ValueError("its numbers are big-endian")
    reader = _Reader(record("data.pkl"))
    tree = reader.run()
    for key, storage in reader.storages.items():
        offset, length = place(f"data/{key}")
        if length != storage.numel * storage.dtype.itemsize:
            raise ValueError("a tensor has other bytes than it claims")
        storage.place(data, offset)
    return _finished(tree)


def _directory_size(data: mmap.mmap) -> int:
    """Bytes of a zip's table of contents; ten times as much memory is needed to read it."""
    end = data.rfind(b"PK\5\6", max(0, len(data) - (1 << 16) - 22))
    (size,) = struct.unpack_from("<I", data, end + 12)
    if size == 0xFFFFFFFF and end >= 20:  # zip64
        (start,) = struct.unpack_from("<Q", data, end - 20 + 8)
        (size,) = struct.unpack_from("<Q", data, start + 40)
    return int(size)


def _read_legacy(data: mmap.mmap) -> Any:
    """Five pickles (magic, version, machine, tree, order of the storages), then the storages."""
    reader = _Reader(data[:MAX_PICKLE_BYTES])
    magic = reader.run()
    if magic != LEGACY_MAGIC:
        raise ValueError("it is not a file of torch.save")
    _version, _machine, tree, keys = (reader.run() for _ in range(4))
    at = reader.at
    for key in keys:
        storage = reader.storages[key]
        (numel,) = struct.unpack_from("<q", data, at)
        if numel != storage.numel:
            raise ValueError("a tensor has other bytes than it claims")
        at = storage.place(data, at + 8)
    return _finished(tree)


def _finished(tree: Any, depth: int = 0) -> Any:
    """Tensors in place of views, in dicts, and in dicts in those: further down are no weights."""
    if isinstance(tree, dict) and depth < 2:
        return {key: _finished(value, depth + 1) for key, value in tree.items()}
    return tree.tensor() if isinstance(tree, _View) else tree


# ---------------------------------------------------------------------- the pickle

_MARK = object()


class _Reader:
    """A stack and a memo: the opcodes that torch's protocol 2 needs, each in bounded memory."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.num_opcodes = data, 0, 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}

    def run(self) -> Any:
        """The next pickle's value; Others where it is no plain data."""
        self.stack, self.memo = [], {}
        while True:
            self.num_opcodes += 1
            if self.num_opcodes > MAX_OPCODES:
                raise ValueError(f"its pickle has more than {MAX_OPCODES:,} opcodes")
            code = self.take(1)
            if code == b"." and self.stack:
                return self.stack.pop()
            if code not in _OPCODES:
                raise ValueError(f"its pickle has the opcode {code!r}, which weights do not need")
            try:
                _OPCODES[code](self)
            except (LookupError, TypeError, struct.error) as error:
                raise ValueError("its pickle is damaged") from error

    def take(self, length: int) -> bytes:
        end = self.at + length
        if length < 0 or end > len(self.data):
            raise ValueError("it ends too early")
        found, self.at = self.data[self.at : end], end
        return found

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def long(self) -> int:
        return int.from_bytes(self.take(self.number("<B")), "little", signed=True)

    def line(self) -> str:
        end = self.data.index(b"\n", self.at, self.at + 1000)
        found, self.at = self.data[self.at : end].decode(), end + 1
        return found

    def text(self, form: str) -> None:
        self.stack.append(self.take(self.number(form)).decode())

    def since_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def fold(self, count: int) -> None:
        self.stack[len(self.stack) - count :] = [tuple(self.stack[len(self.stack) - count :])]

    def put(self, form: str) -> None:
        self.memo[self.number(form)] = self.stack[-1]

    def name(self) -> None:
        self.stack.append(Other(f"{self.line()} {self.line()}"))

    def items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | int | float):  # the hash of nested tuples has no end
                raise ValueError("it has a dict whose keys are no names")
            if isinstance(target, dict):
                target[key] = value

    def extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        name = getattr(function, "name", "")
        if name in ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor"):
            self.stack.append(_View(*arguments[:4]))
        elif name == "torch._utils _rebuild_parameter":
            self.stack.append(arguments[0])
        elif name == "collections OrderedDict":
            self.stack.append({})
            self.items([each for pair in (arguments or [()])[0] for each in pair])
        else:
            self.stack.append(Other(name))

    def persistent(self) -> None:
        kind, storage_type, key, _, numel = self.stack.pop()[:5]
        name = getattr(storage_type, "name", "")
        if kind != "storage" or name not in DTYPES or not isinstance(key, str):
            raise ValueError(f"it has tensors of the kind {name[:60]!r}")
        if not isinstance(numel, int) or not 0 <= numel < 1 << 48:
            raise ValueError("it has a tensor with a size that is none")
        self.stack.append(self.storages.setdefault(key, _Storage(DTYPES[name], numel)))


_OPCODES: dict[bytes, Callable[[_Reader], Any]] = {
    b"\x80": lambda r: r.take(1),
    b"(": lambda r: r.stack.append(_MARK),
    b"}": lambda r: r.stack.append({}),
    b"]": lambda r: r.stack.append([]),
    b")": lambda r: r.stack.append(()),
    b"N": lambda r: r.stack.append(None),
    b"\x88": lambda r: r.stack.append(True),
    b"\x89": lambda r: r.stack.append(False),
    b"J": lambda r: r.stack.append(r.number("<i")),
    b"K": lambda r: r.stack.append(r.number("<B")),
    b"M": lambda r: r.stack.append(r.number("<H")),
    b"G": lambda r: r.stack.append(r.number(">d")),
    b"\x8a": lambda r: r.stack.append(r.long()),
    b"X": lambda r: r.text("<I"),
    b"T": lambda r: r.text("<i"),
    b"U": lambda r: r.text("<B"),
    b"q": lambda r: r.put("<B"),
    b"r": lambda r: r.put("<I"),
    b"h": lambda r: r.stack.append(r.memo[r.number("<B")]),
    b"j": lambda r: r.stack.append(r.memo[r.number("<I")]),
    b"c": lambda r: r.name(),
    b"t": lambda r: r.stack.append(tuple(r.since_mark())),
    b"\x85": lambda r: r.fold(1),
    b"\x86": lambda r: r.fold(2),
    b"\x87": lambda r: r.fold(3),
    b"s": lambda r: r.items([r.stack.pop(), r.stack.pop()][::-1]),
    b"u": lambda r: r.items(r.since_mark()),
    b"a": lambda r: r.extend([r.stack.pop()]),
    b"e": lambda r: r.extend(r.since_mark()),
    b"b": lambda r: r.stack.pop(),  # attributes, such as a state dict's `_metadata`
    b"R": lambda r: r.reduce(),
    b"Q": lambda r: r.persistent(),
}
