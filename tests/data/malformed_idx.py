"""MNIST, Fashion-MNIST and KMNIST that cannot be read: what is wrong, by name."""

import gzip
import struct
from itertools import cycle
from pathlib import Path

import numpy as np
from data_files import MNIST_NAMES, idx_bytes, images, write_mnist
from malformed_bytes import NO_FILES, Case, cut, damaged_gzip, gzip_bomb, replaced

DATASETS = cycle(("mnist", "fashion_mnist", "kmnist"))
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = MNIST_NAMES
GOOD, GOOD_LABELS = idx_bytes(images(40)[:, 0]), idx_bytes(np.arange(40) % 10)


def _with(name: str, content: bytes):
    """A good data set but for one file."""

    def make(root: Path) -> None:
        write_mnist(root, gz=name.endswith(".gz"))
        (root / name).write_bytes(content)

    return make


def _instead(name: str, put):
    """A good data set with something else under the name of one file."""

    def make(root: Path) -> None:
        write_mnist(root, gz=name.endswith(".gz"))
        (root / name).unlink()
        put(root / name)

    return make


def _without(*names: str):
    def make(root: Path) -> None:
        write_mnist(root)
        for name in names:
            (root / name).unlink()

    return make


def _renamed(change):
    def make(root: Path) -> None:
        write_mnist(root)
        for path in list(root.iterdir()):
            path.rename(root / change(path.name))

    return make


def _raw_and_gz(root: Path) -> None:
    """The raw files are taken: a good compressed one does not hide a bad raw one."""
    write_mnist(root, gz=True)
    write_mnist(root)
    (root / TRAIN_IMAGES).write_bytes(GOOD[:-1])


def _header(magic: bytes, *sizes: int) -> bytes:
    return magic + struct.pack(f">{len(sizes)}I", *sizes)


BYTES, FLOATS = b"\0\0\x08\x03", b"\0\0\x0d\x03"
PIXELS = GOOD[16:]
HEADERS = {
    "wrong magic": (b"\x01" + GOOD[1:], "magic number is 01000803; expected 00000803"),
    "floats": (FLOATS + GOOD[4:], "magic number is 00000d03; expected 00000803"),
    "little endian": (GOOD[3::-1] + GOOD[4:], "magic number is 03080000"),
    "two dimensions": (b"\0\0\x08\x02" + GOOD[4:], "magic number is 00000802"),
    "255 dimensions": (b"\0\0\x08\xff" + GOOD[4:], "magic number is 000008ff"),
    "labels for images": (GOOD_LABELS, "magic number is 00000801"),
    "no samples": (_header(BYTES, 0, 28, 28), "announces 0 samples"),
    "one sample announced": (_header(BYTES, 1, 28, 28) + PIXELS, "goes on after|1 images"),
    "2^31-1 samples": (_header(BYTES, 2**31 - 1, 28, 28) + PIXELS, "announces 2,147,483,647"),
    "2^32-1 samples": (_header(BYTES, 2**32 - 1, 28, 28) + PIXELS, "announces 4,294,967,295"),
    "a million samples": (_header(BYTES, 10**6, 28, 28) + PIXELS, "expected 784,000,000|40 labels"),
    "a product beyond 2^64": (_header(BYTES, *[2**32 - 1] * 3), r"\[4294967295, 4294967295\]"),
    "images of 32x32": (idx_bytes(images(40, size=32)[:, 0]), r"shape \[32, 32\]; expected"),
    "images of 28x0": (_header(BYTES, 40, 28, 0), r"shape \[28, 0\]; expected \[28, 28\]"),
    "39 images": (idx_bytes(images(39)[:, 0]), "39 images, but .* 40 labels"),
    "41 images": (idx_bytes(images(41)[:, 0]), "41 images, but .* 40 labels"),
}
LABELS = {
    "label 10": (idx_bytes(np.arange(40) % 11), "labels from 0 to 10, but .* from 0 to 9"),
    "label 255": (idx_bytes(np.full(40, 255)), "labels from 255 to 255"),
    "images for labels": (GOOD, "magic number is 00000803; expected 00000801"),
    "no labels": (idx_bytes(np.arange(0)), "announces 0 samples"),
    "39 labels": (idx_bytes(np.arange(39) % 10), "40 images, but .* 39 labels"),
    "ten million labels": (_header(b"\0\0\x08\x01", 10**7), "10,000,000"),
}


def _cases() -> dict[str, Case]:
    found = {
        "web page": "is a web page",
        "LFS pointer": "is a Git LFS pointer",
        "JSON": "is JSON",
        "zip": "is a zip archive",
        "bz2": "is compressed with bzip2",
        "xz": "is compressed with xz",
        "nothing": "is empty",
        "zeros": "begins with zeros",
    }
    raw = {
        f"{k} for images": (TRAIN_IMAGES, v, found.get(k, "magic number is"))
        for k, v in replaced(GOOD).items()
    }
    raw |= {
        f"{k} of images": (TRAIN_IMAGES, v, "ends after|goes on")
        for k, v in cut(GOOD, 1, 3, 4, 7, 15, 16, 17, 500, 800, -1).items()
    }
    labels = {k: v for k, v in cut(GOOD_LABELS, 2, 6, 8, -1).items() if k != "twice"}
    raw |= {f"{k} of labels": (TRAIN_LABELS, v, "ends after|goes on") for k, v in labels.items()}
    raw |= {name: (TRAIN_IMAGES, *case) for name, case in HEADERS.items()}
    raw |= {name: (TRAIN_LABELS, *case) for name, case in LABELS.items()}
    raw["gzip under a raw name"] = (TRAIN_IMAGES, gzip.compress(GOOD), "is compressed with gzip")
    raw["test label 10"] = (TEST_LABELS, idx_bytes(np.full(20, 10)), "labels from 10 to 10")
    gz = {
        f"gzip, {name}": (file, gzip.compress(content), message)
        for name, (file, content, message) in raw.items()
        if "for images" not in name and "gzip" not in name
    }
    gz["gzip in gzip"] = (TRAIN_IMAGES, gzip.compress(gzip.compress(GOOD)), "magic number|ends")
    packed = gzip.compress(GOOD)
    gz |= {
        f"gzip, {name} in its place": (TRAIN_IMAGES, content, found.get(name, "damaged"))
        for name, content in (replaced(GOOD) | {"raw": GOOD}).items()
    }
    gz |= {f"gzip, {k}": (TRAIN_IMAGES, v, "damaged|end") for k, v in damaged_gzip(packed).items()}
    gz["gzip, two members"] = (TRAIN_IMAGES, packed * 2, "goes on after 40 samples")
    gz["bomb of 10 GB behind"] = (TRAIN_IMAGES, gzip_bomb(GOOD, 10 << 30), "goes on after 40")
    true = _header(BYTES, (10 << 30) // 784, 28, 28)
    gz["bomb of 10 GB announced"] = (TRAIN_IMAGES, gzip_bomb(true, 10 << 30), "announces 13,")
    less = _header(BYTES, 1_300_000, 28, 28)
    gz["bomb of 1 GB announced"] = (TRAIN_IMAGES, gzip_bomb(less, 10 << 30), "1,300,000")
    gz["bomb of labels"] = (
        TRAIN_LABELS,
        gzip_bomb(_header(b"\0\0\x08\x01", 10**7), 10 << 30),
        "10,000,000",
    )
    cases = {k: Case(next(DATASETS), _with(n, c), m, n) for k, (n, c, m) in raw.items()}
    cases |= {
        k: Case(next(DATASETS), _with(f"{n}.gz", c), m, f"{n}.gz") for k, (n, c, m) in gz.items()
    }
    for kind, (put, message) in NO_FILES.items():
        for name in (TRAIN_IMAGES, f"{TEST_LABELS}.gz"):
            make = _instead(name, put)
            cases[f"{kind} for {name}"] = Case(next(DATASETS), make, message, name)
    return cases


CASES = _cases() | {
    "images without labels": Case("mnist", _without(TRAIN_LABELS, TEST_LABELS), TRAIN_LABELS),
    "labels without images": Case("kmnist", _without(TRAIN_IMAGES, TEST_IMAGES), TEST_IMAGES),
    "train without test": Case("mnist", _without(TEST_IMAGES, TEST_LABELS), "no t10k-images"),
    "test without train": Case("kmnist", _without(TRAIN_IMAGES, TRAIN_LABELS), "no train-images"),
    "names in capitals": Case("mnist", _renamed(str.upper), f"no {TRAIN_IMAGES}"),
    "names of copies": Case("kmnist", _renamed("{} (1)".format), f"no {TRAIN_IMAGES}"),
    "bad raw beside good gzip": Case("fashion_mnist", _raw_and_gz, "ends after", TRAIN_IMAGES),
}
