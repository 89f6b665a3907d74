"""CIFAR-10 and CIFAR-100 that cannot be read, in folders: what is wrong, by name."""

import gzip
import pickle
import tempfile
from pathlib import Path

import numpy as np
from data_files import images, write_cifar10, write_cifar100
from malformed_bytes import NO_FILES, Case, cut, replaced
from malformed_pickles import GOOD, HOSTILE, WRONG

PYTHON, BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"
PYTHON100, BINARY100 = "cifar-100-python", "cifar-100-binary"
BATCH, BATCH_BIN = f"{PYTHON}/data_batch_2", f"{BINARY}/data_batch_4.bin"
TRAIN, TEST_BIN = f"{PYTHON100}/train", f"{BINARY100}/test.bin"
RECORD = bytes(3072)
SEEN = {"zip": "is a zip archive", "JSON": "is JSON", "LFS pointer": "is a Git LFS pointer"}


def write_good(root: Path, folder: str) -> None:
    """A small data set that can be read, in one of the four layouts."""
    if folder in (PYTHON, BINARY):
        write_cifar10(root / folder, layout="python2" if folder == PYTHON else "binary")
    else:
        write_cifar100(root / folder, layout="python" if folder == PYTHON100 else "binary")


def good_bytes(name: str) -> bytes:
    """What `write_good` writes under a name."""
    with tempfile.TemporaryDirectory() as folder:
        write_good(Path(folder), name.partition("/")[0])
        return (Path(folder) / name).read_bytes()


def _with(name: str, content: bytes):
    def make(root: Path) -> None:
        write_good(root, name.partition("/")[0])
        (root / name).write_bytes(content)

    return make


def _changed(folder: str, change):
    def make(root: Path) -> None:
        write_good(root, folder)
        change(root / folder)

    return make


def _replacing(name: str, put):
    def make(root: Path) -> None:
        write_good(root, name.partition("/")[0])
        (root / name).unlink()
        put(root / name)

    return make


def _without(*names: str):
    return lambda folder: [(folder / name).unlink() for name in names]


def _sparse(num_bytes: int):
    def put(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(num_bytes)

    return put


def _pickle100(**changes: object) -> bytes:
    content = {"data": images(9, 3, 32).reshape(9, 3072), "fine_labels": list(range(9))} | changes
    return pickle.dumps({k: v for k, v in content.items() if v is not None}, 4)


def _cases() -> dict[str, Case]:
    files = {f"hostile pickle, {k}": (BATCH, *v) for k, v in HOSTILE.items()}
    files |= {f"pickle, {k}": (BATCH, *v) for k, v in WRONG.items()}
    files |= {
        f"pickle, {k}": (BATCH, v, "intact|its end") for k, v in cut(GOOD, 1, 2, 9, 60).items()
    }
    files |= {f"pickle, {k}": (BATCH, GOOD[:k], "not an intact") for k in (1000, 30_000, -1)}
    for name in (BATCH, BATCH_BIN, TRAIN, TEST_BIN):
        others = replaced(good_bytes(name)) | {"gzip": gzip.compress(good_bytes(name))}
        files |= {f"{k} for {name}": (name, v, SEEN.get(k, "expected")) for k, v in others.items()}
    batch = good_bytes(BATCH_BIN)
    for k, v in cut(batch, 1, 3072, 3074, -1).items():
        files[f"{k} of {BATCH_BIN}"] = (BATCH_BIN, v, "bytes; expected|siblings")
    files |= {
        "label 10 in a binary batch": (BATCH_BIN, b"\x0a" + RECORD, "labels from 10 to 10"),
        "label 255 in a binary batch": (BATCH_BIN, batch[:-3073] + b"\xff" + RECORD, "to 255"),
        "fewer records": (
            BATCH_BIN,
            batch[: 3073 * 7],
            "has 7 samples; expected 20, as its siblings have",
        ),
        "label 100 of CIFAR-100": (TEST_BIN, b"\0\x64" + RECORD, "100 they must be from 0 to 99"),
        "CIFAR-10 for CIFAR-100": (
            TEST_BIN,
            batch,
            "1 to 50,000 records of 3,074 bytes, all whole",
        ),
        "CIFAR-100 for CIFAR-10": (BATCH_BIN, good_bytes(TEST_BIN), "records of 3,073"),
        "fine label 100": (TRAIN, _pickle100(fine_labels=[100] * 9), "labels from 100 to 100"),
        "no fine labels": (TRAIN, _pickle100(fine_labels=None), "numbers named `fine_labels`"),
        "coarse labels only": (
            TRAIN,
            _pickle100(fine_labels=None, coarse_labels=[1] * 9),
            "numbers named `fine_labels`",
        ),
        "8 fine labels": (TRAIN, _pickle100(fine_labels=list(range(8))), "9 images and 8 labels"),
        "float data": (TRAIN, _pickle100(data=np.zeros((9, 3072))), "no array of bytes"),
    }
    cases = {k: Case(_dataset(n), _with(n, c), m, n) for k, (n, c, m) in files.items()}
    for kind, (put, message) in NO_FILES.items():
        for name in (BATCH, BATCH_BIN, TRAIN):
            cases[f"{kind} for {name}"] = Case(_dataset(name), _replacing(name, put), message, name)
    for name in (BATCH, BATCH_BIN, TRAIN, TEST_BIN):
        make = _replacing(name, _sparse(1 << 30))
        cases[f"1 GB for {name}"] = Case(_dataset(name), make, "expected", name)
    for name in (BATCH, BATCH_BIN):
        make = _replacing(name, _sparse(3073 * 10_000))
        cases[f"30 MB of nothing for {name}"] = Case(_dataset(name), make, "expected", name)
    return cases


def _dataset(name: str) -> str:
    return "cifar100" if name.startswith("cifar-100") else "cifar10"


CASES = _cases() | {
    "four of five batches": Case(
        "cifar10", _changed(PYTHON, _without("data_batch_5")), "lacks data_batch_5;", PYTHON
    ),
    "one of five batches": Case(
        "cifar10",
        _changed(BINARY, _without(*(f"data_batch_{n}.bin" for n in (1, 2, 4, 5)))),
        "lacks data_batch_1.bin, data_batch_2.bin, data_batch_4.bin, data_batch_5.bin;",
        BINARY,
    ),
    "no test batch": Case("cifar10", _changed(PYTHON, _without("test_batch")), "lacks test_batch"),
    "only the test batch": Case(
        "cifar100", _changed(PYTHON100, _without("train")), "lacks train;", PYTHON100
    ),
    "no test set": Case("cifar100", _changed(BINARY100, _without("test.bin")), "lacks test.bin"),
    "CIFAR-100 in place of CIFAR-10": Case("cifar10", _changed(PYTHON100, str), "no cifar-10-"),
    "CIFAR-10 in place of CIFAR-100": Case("cifar100", _changed(PYTHON, str), "no cifar-100-"),
    "folder in capitals": Case(
        "cifar10", _changed(PYTHON, lambda f: f.rename(f.with_name(f.name.upper()))), "no cifar-10-"
    ),
}
