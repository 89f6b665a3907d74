"""Plain data from a pickle file without unpickling it: containers, strings, numbers and arrays.

Python's Unpickler calls what the file names and, even with `find_class` shut, allocates what the
file claims. This reader knows only the opcodes that plain data needs, looks nothing up, and makes
no more than a bounded number of objects and about twice the file's own bytes.

Opcodes: the standard library's pickletools.py, protocols 2 to 4. Arrays: `ndarray.__reduce__`.
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dltrain.data.files import read_file, refuse

_MAX_OPCODES = 4_000_000
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
    """The dictionary in a pickle file; its keys as text, its arrays read-only.

    Raises ValueError for anything but plain data, without running any of it.
    """
    try:
        content = _Machine(read_file(path)).run()
    except _NotPlainError as error:
        refuse(path, str(error), "a pickle of containers, strings, numbers and arrays")
    except (LookupError, struct.error, ValueError, TypeError, AttributeError):
        refuse(path, "it is not an intact pickle", "one of protocol 2 to 4")
    if not isinstance(content, dict):
        refuse(path, f"it holds a {type(content).__name__}", "a dictionary")
    return {_text(key): _finished(value) for key, value in content.items()}


def _text(key: object) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def _finished(value: object) -> Any:
    return value.content if isinstance(value, _Array) else value


class _NotPlainError(Exception):
    """The file asks for more than plain data."""


class _Name(str):
    """One of the values of _NAMES, on the stack."""


class _Dtype:
    def __init__(self, code: str) -> None:
        if code not in _DTYPES:
            raise _NotPlainError(f"it has an array of type {code[:20]!r}")
        self.code = code
        self.byte_order = "|"

    def build(self, state: tuple[Any, ...]) -> None:
        self.byte_order = _text(state[1])


class _Array:
    content: np.ndarray | None = None

    def build(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, raw = state
        full_dtype = np.dtype(dtype.byte_order + dtype.code)
        flat = np.frombuffer(raw, full_dtype)  # refuses to be reshaped to what it does not hold
        self.content = flat.reshape(shape, order="F" if is_fortran else "C")


class _Machine:
    """A stack, marks into it, and a memo: what a pickle's opcodes work on."""

    def __init__(self, data: bytearray) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.encoded_bytes = 0

    def run(self) -> Any:
        data, handlers = self.data, _HANDLERS
        for _ in range(_MAX_OPCODES):
            opcode = data[self.at]
            self.at += 1
            if opcode == _STOP:
                return self.stack.pop()
            handler = handlers.get(opcode)
            if handler is None:
                raise _NotPlainError(
                    f"it has the opcode {bytes([opcode])!r} at byte {self.at - 1:,}"
                )
            handler(self)
        raise _NotPlainError(f"it has more than {_MAX_OPCODES:,} opcodes")

    def number(self, form: struct.Struct) -> Any:
        (value,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value

    def take(self, length: int) -> bytes:
        end = self.at + length
        if length < 0 or end > len(self.data):
            raise ValueError
        start, self.at = self.at, end
        return bytes(memoryview(self.data)[start:end])

    def line(self) -> str:
        text = self.take(self.data.index(b"\n", self.at) - self.at).decode("ascii")
        self.at += 1
        return text

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

    def name(self, module: str, name: str) -> None:
        meaning = _NAMES.get(f"{module} {name}")
        if meaning is None:
            raise _NotPlainError(f"it refers to `{module[:40]}.{name[:40]}`, which may run code")
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
            if self.encoded_bytes > len(self.data):
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
_STOP = ord(".")


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
