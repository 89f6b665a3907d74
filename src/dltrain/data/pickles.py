"""Plain data from a pickle file without unpickling it: containers, strings, numbers and arrays.

Python's Unpickler calls what the file names and, even with `find_class` shut, allocates what the
file claims. This reader knows only the opcodes that plain data needs, looks nothing up, and makes
no more than a bounded number of objects and little more than the file's own bytes.

Opcodes: the standard library's pickletools.py, protocols 2 to 4. Arrays: `ndarray.__reduce__`.
"""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dltrain.data.files import open_file, printable, refuse

# CIFAR-100's training set, the largest that is meant to be read here, has 156 MB and takes 0.4
# million; an empty list for each opcode takes 72 MB.
_MAX_BYTES = 160 << 20
_MAX_OPCODES = 1_000_000
_MAX_LINE = 200
_LARGE = 1 << 20
_DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "b1")
# All that a file may refer to, and what it stands for here: nothing is imported.
_NAMES = {
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
    # how Python 3 writes bytes for Python 2
    "_codecs encode": "encode",
    "__builtin__ bytes": "no bytes",
}


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle file; its keys as text, its arrays read-only but for large ones.

    Raises ValueError for anything but plain data, without running any of it.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MAX_BYTES:
            refuse(path, f"it has {size:,} bytes", f"at most {_MAX_BYTES:,}")
        try:
            content = _Machine(file, size).run()
        except _NotPlainError as error:
            refuse(path, str(error), "a pickle of containers, strings, numbers and arrays")
        except (LookupError, struct.error, ValueError, TypeError, AttributeError, OverflowError):
            refuse(path, "it is not an intact pickle", "one of protocol 2 to 4")
    if not isinstance(content, dict):
        refuse(path, f"it holds a {type(content).__name__}", "a dictionary")
    return {_text(key): _finished(value) for key, value in content.items()}


def _text(value: object) -> str:
    """Never of a container: its text can be exponentially longer than itself."""
    if not isinstance(value, str | bytes | int):
        raise TypeError
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _finished(value: object) -> Any:
    return value.content if isinstance(value, _Array) else value


class _NotPlainError(Exception):
    """The file asks for more than plain data."""


class _Name(str):
    """One of the values of _NAMES, on the stack."""


class _Dtype:
    def __init__(self, code: str) -> None:
        if code not in _DTYPES:
            raise _NotPlainError(f"it has an array of type `{printable(code, 20)}`")
        self.code = code
        self.byte_order = "|"

    def build(self, state: tuple[Any, ...]) -> None:
        self.byte_order = _text(state[1])
        if self.byte_order not in ("<", ">", "=", "|"):
            raise ValueError


class _Array:
    content: np.ndarray | None = None

    def build(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, raw = state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes | bytearray):
            raise TypeError
        full_dtype = np.dtype(dtype.byte_order + dtype.code)
        flat = np.frombuffer(raw, full_dtype)  # refuses to be reshaped to what it does not hold
        self.content = flat.reshape(shape, order="F" if is_fortran else "C")


class _Machine:
    """A stack, marks into it, and a memo: what a pickle's opcodes work on."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.size = self.left = size
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.encoded_bytes = 0

    def run(self) -> Any:
        for _ in range(_MAX_OPCODES):
            opcode = self.take(1)
            if opcode == b".":
                if self.left:
                    raise _NotPlainError(f"it goes on for {self.left:,} bytes after its end")
                return self.stack.pop()
            handler = _HANDLERS.get(opcode[0])
            if handler is None:
                raise _NotPlainError(
                    f"it has the opcode {opcode!r} at byte {self.size - self.left - 1:,}"
                )
            handler(self)
        raise _NotPlainError(f"it has more than {_MAX_OPCODES:,} opcodes")

    def number(self, form: struct.Struct) -> Any:
        return form.unpack(self.take(form.size))[0]

    def take(self, length: int) -> Any:
        """bytes; or a bytearray where they are so many that an array should not copy them."""
        if not 0 <= length <= self.left:
            raise ValueError
        self.left -= length
        if length < _LARGE:
            return self.file.read(length)
        data = bytearray(length)
        self.file.readinto(data)  # type: ignore[attr-defined]
        return data

    def line(self) -> str:
        text = self.file.readline(_MAX_LINE)
        self.left -= len(text)
        if not text.endswith(b"\n"):
            raise ValueError
        return text[:-1].decode("ascii")

    def items(self) -> list[Any]:
        """What lies above the last mark."""
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def pop_tuple(self, length: int) -> None:
        items = tuple(self.stack[-length:])
        if len(items) != length:
            raise ValueError
        self.stack[-length:] = [items]

    def name(self, module: object, name: object) -> None:
        where = f"{_text(module)} {_text(name)}"
        meaning = _NAMES.get(where)
        if meaning is None:
            shown = printable(where.replace(" ", "."))
            raise _NotPlainError(f"it refers to `{shown}`, which may run code")
        self.stack.append(_Name(meaning))

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Name):
            raise _NotPlainError("it calls something that is not a name")
        if function == "array":
            self.stack.append(_Array())
        elif function == "dtype":
            self.stack.append(_Dtype(_text(arguments[0])))
        elif function == "no bytes" and not arguments:
            self.stack.append(b"")
        elif function == "encode" and arguments[1] in ("latin1", b"latin1"):
            self.encoded_bytes += len(arguments[0])
            if self.encoded_bytes > self.size:
                raise _NotPlainError("it encodes the same text again and again")
            self.stack.append(arguments[0].encode("latin-1"))
        else:
            raise _NotPlainError(f"it calls {function}")

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, _Dtype | _Array):
            raise _NotPlainError(f"it sets the state of a {type(target).__name__}")
        target.build(state)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        keys = items[::2]
        # hashing a deeply nested tuple could take forever
        if not isinstance(target, dict) or not all(isinstance(k, str | bytes | int) for k in keys):
            raise _NotPlainError("it has a dictionary whose keys are not text or numbers")
        target.update(zip(keys, items[1::2], strict=True))

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError
        self.stack[-1].extend(items)


_U1, _U2, _U4, _I4, _U8 = (struct.Struct(f"<{code}") for code in "BHIiQ")
_F8 = struct.Struct(">d")


def _push(read: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(read(m))


_HANDLERS: dict[int, Callable[[_Machine], object]] = {
    0x80: lambda m: m.number(_U1),  # PROTO
    0x95: lambda m: m.number(_U8),  # FRAME
    ord("("): lambda m: m.marks.append(len(m.stack)),
    ord("N"): _push(lambda m: None),
    0x88: _push(lambda m: True),
    0x89: _push(lambda m: False),
    ord("J"): _push(lambda m: m.number(_I4)),
    ord("K"): _push(lambda m: m.number(_U1)),
    ord("M"): _push(lambda m: m.number(_U2)),
    ord("G"): _push(lambda m: m.number(_F8)),
    0x8A: _push(lambda m: int.from_bytes(m.take(m.number(_U1)), "little", signed=True)),
    ord("U"): _push(lambda m: m.take(m.number(_U1))),  # Python 2's str
    ord("T"): _push(lambda m: m.take(m.number(_I4))),
    ord("C"): _push(lambda m: m.take(m.number(_U1))),
    ord("B"): _push(lambda m: m.take(m.number(_U4))),
    0x8E: _push(lambda m: m.take(m.number(_U8))),
    0x8C: _push(lambda m: m.take(m.number(_U1)).decode()),
    ord("X"): _push(lambda m: m.take(m.number(_U4)).decode()),
    0x8D: _push(lambda m: m.take(m.number(_U8)).decode()),
    ord("]"): _push(lambda m: []),
    ord("}"): _push(lambda m: {}),
    ord(")"): _push(lambda m: ()),
    ord("t"): _push(lambda m: tuple(m.items())),
    0x85: lambda m: m.pop_tuple(1),
    0x86: lambda m: m.pop_tuple(2),
    0x87: lambda m: m.pop_tuple(3),
    ord("a"): lambda m: m.extend([m.stack.pop()]),
    ord("e"): lambda m: m.extend(m.items()),
    ord("s"): lambda m: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    ord("u"): lambda m: m.set_items(m.items()),
    ord("q"): lambda m: m.memo.__setitem__(m.number(_U1), m.stack[-1]),
    ord("r"): lambda m: m.memo.__setitem__(m.number(_U4), m.stack[-1]),
    0x94: lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    ord("h"): _push(lambda m: m.memo[m.number(_U1)]),
    ord("j"): _push(lambda m: m.memo[m.number(_U4)]),
    ord("c"): lambda m: m.name(m.line(), m.line()),
    0x93: lambda m: m.name(m.stack.pop(-2), m.stack.pop()),
    ord("R"): lambda m: m.reduce(),
    ord("b"): lambda m: m.build(),
}
