"""SVHN that cannot be read: MATLAB files that are damaged, of another kind, or written to harm."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from data_files import write_svhn
from malformed_bytes import NO_FILES, Case, cut, replaced
from scipy.io import savemat

TRAIN, TEST = "train_32x32.mat", "test_32x32.mat"
X = np.random.RandomState(0).randint(0, 256, (32, 32, 3, 20)).astype(np.uint8)
Y = (np.arange(20) % 10 + 1)[:, None].astype(np.uint8)
HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def _mat(*, compressed: bool = True, **changes: object) -> bytes:
    """By scipy; None takes a variable away."""
    content = {k: v for k, v in ({"X": X, "y": Y} | changes).items() if v is not None}
    file = io.BytesIO()
    savemat(file, content, do_compression=compressed)
    return file.getvalue()


def _element(kind: int, data: bytes, size: int | None = None) -> bytes:
    return (
        struct.pack("<II", kind, len(data) if size is None else size) + data + bytes(-len(data) % 8)
    )


def _matrix(name: bytes, shape: tuple[int, ...], data: bytes, size: int | None = None) -> bytes:
    """A matrix of uint8 as its format says, of a shape and size of our choice."""
    parts = _element(6, struct.pack("<II", 9, 0)) + _element(
        5, struct.pack(f"<{len(shape)}i", *shape)
    )
    return _element(14, parts + _element(1, name) + _element(2, data, size))


def _packed(matrix: bytes, zeros: int = 0) -> bytes:
    """The matrix and zeros behind it as a compressed element."""
    packer = zlib.compressobj(9)
    body = packer.compress(matrix) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(4 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    body += block * (zeros >> 22) + packer.flush()
    return _element(15, body)[: 8 + len(body)]


LABELS = _matrix(b"y", (20, 1), Y.tobytes())
PIXELS = _matrix(b"X", X.shape, X.tobytes(order="F"))
MANY = (32, 32, 3, 300_000)
NUM = 32 * 32 * 3 * 300_000
GOOD, PLAIN = _mat(), _mat(compressed=False)
NOT_REAL = "is not an array of real numbers"
EARLY = "ends|damaged|begin as a MATLAB 5|element of type"


def _nested(depth: int) -> np.ndarray:
    cell = np.array([[1]])
    for _ in range(depth):
        outer = np.empty((1, 1), object)
        outer[0, 0] = cell
        cell = outer
    return cell


FILES: dict[str, tuple[bytes, str]] = {
    "HDF5 of version 7.3": (
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\x02IM" + bytes(512),
        "save -v6",
    ),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(512), "The file is HDF5"),
    "version 4": (struct.pack("<5i", 50, 20, 1, 0, 2) + b"y\0" + Y.tobytes(), "save -v6 or -v7"),
    "other byte order": (HEADER[:126] + b"MI" + LABELS, "element of type|begin as a MATLAB 5"),
    "header only": (HEADER, "no variable X and y"),
    "no X": (_mat(X=None), "it has no variable X;"),
    "no y": (_mat(y=None), "it has no variable y;"),
    "other names": (_mat(X=None, y=None, x=X, Y=Y), "no variable X and y"),
    "X twice": (HEADER + PIXELS + PIXELS + LABELS, "it has `X` twice"),
    "floats": (_mat(X=X.astype("f4")), "X has type float32; expected uint8"),
    "images first": (_mat(X=X.transpose(3, 0, 1, 2)), r"shape \[20, 32, 32, 3\]; expected"),
    "images of 28x28": (_mat(X=X[:28, :28]), r"shape \[28, 28, 3, 20\]"),
    "gray images": (_mat(X=X[:, :, :1]), r"shape \[32, 32, 1, 20\]"),
    "one flat image": (_mat(X=X[..., 0]), r"shape \[32, 32, 3\]"),
    "X as text": (_mat(X="pixels"), f"`X` {NOT_REAL}"),
    "X as cell": (_mat(X=np.array([X, Y], object)), f"`X` {NOT_REAL}"),
    "X as struct": (_mat(X={"X": X}), f"`X` {NOT_REAL}"),
    "y as deep cells": (_mat(y=_nested(100)), f"`y` {NOT_REAL}"),
    "y complex": (_mat(y=Y * 1j), f"`y` {NOT_REAL}"),
    "19 labels": (_mat(y=Y[1:]), "20 images and 19 labels"),
    "no samples": (_mat(X=X[..., :0], y=Y[:0]), "no sample|shape"),
    "label 0": (_mat(y=Y - 1), "labels run from 0 to 9; expected 1 to 10"),
    "label 11": (_mat(y=Y + 1), "labels run from 2 to 11; expected 1 to 10"),
    "label -1": (_mat(y=-Y.astype("i2")), "labels run from -10 to -1"),
    "label 1.5": (_mat(y=Y * 1.5), "labels run from 1.5"),
    "label nan": (_mat(y=Y * np.nan), "labels run from nan"),
    "size of -1": (HEADER + struct.pack("<Ii", 14, -1) + LABELS, "ends 4,294"),
    "type of -1": (HEADER + struct.pack("<iI", -1, 8) + bytes(8), "element of type 4294967295"),
    "shape below zero": (
        HEADER + _matrix(b"X", (32, 32, 3, -20), b"") + LABELS,
        "-20|real numbers",
    ),
    "shape beyond all": (
        HEADER + _matrix(b"X", (2**31 - 1,) * 32, b"") + LABELS,
        "its X has shape",
    ),
    "nothing of much": (
        HEADER + _matrix(b"y", (0, *[2**31 - 1] * 4), b"") + PIXELS,
        "and 0 labels",
    ),
    "33 sizes": (HEADER + _matrix(b"X", (1,) * 33, b"\0") + LABELS, "a part of 132 bytes"),
    "name of a megabyte": (
        HEADER + _matrix(b"X" * (1 << 20), (1, 1), b"\0"),
        "a part of 1,048,576",
    ),
    "no shape": (HEADER + _matrix(b"X", (), b"") + LABELS, r"shape \[\]"),
    "more than announced": (
        HEADER + _matrix(b"X", X.shape, bytes(9), X.size) + LABELS,
        "ends after",
    ),
    "300,000 announced": (
        HEADER + _packed(_matrix(b"X", MANY, b"", NUM)) + LABELS,
        "300,000 images",
    ),
    "a bomb of X": (
        HEADER + _packed(_matrix(b"X", MANY, b"", NUM), NUM) + LABELS,
        "300,000 images",
    ),
    "a bomb behind X": (HEADER + _packed(PIXELS, 2 << 30) + LABELS, "goes on after its numbers"),
    "a bomb behind y": (HEADER + PIXELS + _packed(LABELS, 2 << 30), "goes on after its numbers"),
    "10,000 variables": (
        HEADER + _matrix(b"a", (1, 1), b"\0") * 10_000,
        "more than 1,000 variables",
    ),
    "checksum": (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), "incorrect data check"),
    "flipped bit": (GOOD[:9000] + bytes([GOOD[9000] ^ 4]) + GOOD[9001:], "is damaged"),
}


def _with(content: bytes, name: str = TRAIN):
    def make(root: Path) -> None:
        for each in (TRAIN, TEST):
            write_svhn(root / each, num=20, compressed=True)
        (root / name).write_bytes(content)

    return make


def _instead(name: str, put):
    def make(root: Path) -> None:
        _with(b"", name)(root)
        (root / name).unlink()
        put(root / name)

    return make


def _cases() -> dict[str, Case]:
    files = dict(FILES)
    for kind, good in (("compressed", GOOD), ("plain", PLAIN)):
        pieces = cut(good, 1, 100, 127, 128, 132, 136, 150, 5000, -30, -1)
        files |= {f"{kind}, {k}": (v, "expected") for k, v in pieces.items()}
    files |= {f"{k} in its place": (v, "expected") for k, v in replaced(GOOD).items()}
    cases = {name: Case("svhn", _with(c), m, TRAIN) for name, (c, m) in files.items()}
    for kind, (put, message) in NO_FILES.items():
        cases[f"{kind} for test"] = Case("svhn", _instead(TEST, put), message, TEST)
    return cases


CASES = _cases() | {
    "train without test": Case("svhn", _instead(TEST, str), f"no {TEST}"),
    "test without train": Case("svhn", _instead(TRAIN, str), f"no {TRAIN}"),
}
