"""Writers of the published file formats in miniature, for the tests of this folder."""

import gzip
import io
import pickle
import struct
import tarfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

MNIST_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@contextmanager
def peak_memory(limit: int) -> Iterator[None]:
    """Fails if more than limit bytes of Python's and numpy's memory are taken at a time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak:,} bytes"


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def images(num: int, channels: int = 1, size: int = 28, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (num, channels, size, size)).astype(np.uint8)


def write_mnist(folder: Path, *, num_train: int = 40, num_test: int = 20, gz: bool = False) -> None:
    """Labels are 0, 1, ..., 9, 0, ...; images those of `images` with seeds 0 and 1."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = []
    for seed, num in enumerate((num_train, num_test)):
        contents += [idx_bytes(images(num, seed=seed)[:, 0]), idx_bytes(np.arange(num) % 10)]
    for name, content in zip(MNIST_NAMES, contents, strict=True):
        if gz:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def python2_batch(pixels: np.ndarray, labels: list[int], labels_key: str = "labels") -> bytes:
    """A batch as Python 2's cPickle wrote it in 2009, protocol 2, opcode by opcode."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    raw = pixels.tobytes()
    dtype = b"cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b"
    dtype += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return b"".join(
        [
            b"\x80\x02}q\x01(",
            text("batch_label") + b"q\x02" + text("training batch 1 of 5") + b"q\x03",
            text(labels_key) + b"q\x04]q\x05(" + b"".join(b"K" + bytes([x]) for x in labels) + b"e",
            text("data") + b"q\x06cnumpy.core.multiarray\n_reconstruct\nq\x07",
            b"cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01",
            b"J" + struct.pack("<i", len(pixels)) + b"M\x00\x0c\x86" + dtype,
            b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb",
            text("filenames") + b"q\x0c]q\x0d(",
            *(text(f"{i:05}.png") + b"r" + struct.pack("<I", 14 + i) for i in range(len(labels))),
            b"eu.",
        ]
    )


def write_cifar10(folder: Path, *, layout: str, per_batch: int = 20) -> np.ndarray:
    """Six batches (the last is the test set); gives their images, uint8 [N, 3, 32, 32]."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = images(6 * per_batch, 3, 32)
    labels = [i % 10 for i in range(per_batch)]
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for name, batch in zip(names, np.split(everything, 6), strict=True):
        pixels = batch.reshape(per_batch, 3072)
        if layout == "python2":
            (folder / name).write_bytes(python2_batch(pixels, labels))
        elif layout == "python3":
            content = {b"labels": labels, b"data": pixels, b"filenames": [b"a.png"] * per_batch}
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        else:
            records = np.concatenate([np.array(labels, np.uint8)[:, None], pixels], axis=1)
            (folder / f"{name}.bin").write_bytes(records.tobytes())
    return everything


def write_cifar100(folder: Path, *, layout: str, num: int = 200) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    fine = np.arange(num) % 100
    for seed, name in enumerate(("train", "test")):
        pixels = images(num, 3, 32, seed).reshape(num, 3072)
        if layout == "python":
            content = {
                "data": pixels,
                "fine_labels": fine.tolist(),
                "coarse_labels": (fine // 5).tolist(),
            }
            (folder / name).write_bytes(pickle.dumps(content, protocol=4))
        else:
            columns = [(fine // 5)[:, None], fine[:, None], pixels]
            records = np.concatenate(columns, axis=1).astype(np.uint8)
            (folder / f"{name}.bin").write_bytes(records.tobytes())


def write_tar(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_svhn(path: Path, *, num: int, compressed: bool, seed: int = 0) -> np.ndarray:
    """By scipy, as MATLAB would; gives uint8 [num, 3, 32, 32]. Labels 1, ..., 10, 1, ..."""
    from scipy.io import savemat

    content = images(num, 3, 32, seed)
    variables = {
        "meta": np.array(["something else"]),
        "X": content.transpose(2, 3, 1, 0),
        "y": (np.arange(num) % 10 + 1)[:, None].astype(np.uint8),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables, do_compression=compressed)
    return content
