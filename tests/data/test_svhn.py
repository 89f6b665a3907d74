"""SVHN, and the MATLAB 5 files it comes in (scipy writes them here)."""

import struct
import zlib

import numpy as np
import pytest
from data_files import peak_memory, write_svhn

from dltrain.data.mat5 import read_mat5
from dltrain.data.svhn import SVHN

savemat = pytest.importorskip("scipy.io").savemat


def make(root, **options):
    facts = {"image_shape": [3, 32, 32], "mean": [0.5] * 3, "std": [0.25] * 3, "num_classes": 10}
    others = {"download": False, "num_val": 10, "split_seed": 0}
    return SVHN(root=str(root), **(facts | others | options))


def write_both(folder, compressed=True):
    train = write_svhn(folder / "train_32x32.mat", num=40, compressed=compressed)
    return train, write_svhn(folder / "test_32x32.mat", num=20, compressed=compressed, seed=1)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("folder", [".", "SVHN", "svhn"])
def test_found_and_read(tmp_path, folder, compressed):
    train, test = write_both(tmp_path / folder, compressed)
    splits = make(tmp_path, num_val=0).load()
    assert np.array_equal(splits["train"].inputs, train)
    assert np.array_equal(splits["test"].inputs, test)
    assert splits["test"].targets.tolist() == [*range(1, 10), 0] * 2


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4", "f8", "i8"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (2, 3), (2, 3, 4), (0, 2)])
def test_arrays_are_what_scipy_wrote(tmp_path, compressed, dtype, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    path = tmp_path / "a.mat"
    savemat(path, {"before": array[:1], "a_rather_long_name": array}, do_compression=compressed)
    found = read_mat5(path, ["a_rather_long_name"])
    assert list(found) == ["a_rather_long_name"]
    assert np.array_equal(found["a_rather_long_name"], array)


def test_a_missing_half_is_named(tmp_path):
    write_both(tmp_path)
    (tmp_path / "test_32x32.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"SVHN: no test_32x32\.mat\nlooked in"):
        make(tmp_path).load()
    with pytest.raises(FileNotFoundError, match=r"no train_32x32\.mat, test_32x32\.mat\nlooked in"):
        make(tmp_path / "elsewhere").load()


X, Y = np.zeros((32, 32, 3, 20), np.uint8), np.ones((20, 1), np.uint8)
BAD_VARIABLES = {
    "no y": ({"X": X}, "no variable y"),
    "neither": ({"a": X}, "no variable X and y"),
    "type": ({"X": X.astype(np.float32), "y": Y}, "X has type float32"),
    "shape": ({"X": X[:28], "y": Y}, r"shape \[28, 32, 3, 20\]"),
    "count": ({"X": X, "y": Y[1:]}, "20 images and 19 labels"),
    "label 0": ({"X": X, "y": Y * 0}, "labels run from 0 to 0"),
    "label 11": ({"X": X, "y": Y * 11}, "labels run from 11"),
    "fractions": ({"X": X, "y": Y * 1.5}, "labels run from 1.5"),
    "not a number": ({"X": X, "y": Y * np.nan}, "labels run from nan"),
    "complex": ({"X": X, "y": Y * 1j}, "`y` is not an array of real numbers"),
    "text": ({"X": "zeros", "y": Y}, "`X` is not an array of real numbers"),
    "cell": ({"X": np.array([X, Y], object), "y": Y}, "`X` is not an array of real numbers"),
}


@pytest.mark.parametrize("case", BAD_VARIABLES)
def test_wrong_variables_are_refused(tmp_path, case):
    write_both(tmp_path)
    variables, message = BAD_VARIABLES[case]
    savemat(tmp_path / "train_32x32.mat", variables)
    with pytest.raises(ValueError, match=message) as caught:
        make(tmp_path).load()
    assert str(tmp_path / "train_32x32.mat") in str(caught.value)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("change", ["half", "tail", "flipped", "empty", "web page", "hdf5"])
def test_damaged_files_are_refused(tmp_path, change, compressed):
    write_both(tmp_path, compressed)
    path = tmp_path / "train_32x32.mat"
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2 if compressed else 128] ^= 255  # uncompressed has no checksum
    path.write_bytes(
        {
            "half": content[: len(content) // 2],
            "tail": content[:-5],
            "flipped": bytes(flipped),
            "empty": b"",
            "web page": b"<html>" * 99,
            "hdf5": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(500),
        }[change]
    )
    with pytest.raises(ValueError, match="expected") as caught:
        make(tmp_path).load()
    assert str(path) in str(caught.value)


def _element(kind: int, data: bytes, size: int | None = None) -> bytes:
    padded = data + bytes(-len(data) % 8)
    return struct.pack("<II", kind, len(data) if size is None else size) + padded


@pytest.mark.parametrize("claimed", [1 << 20, 1 << 29, (1 << 32) - 1])
def test_memory_is_bounded_by_what_is_there(tmp_path, claimed):
    """A matrix of a shape and size of its own choice, in a file of a few hundred bytes."""
    shape = struct.pack("<2i", 1, claimed & 0x7FFFFFFF)
    matrix = _element(6, struct.pack("<II", 9, 0)) + _element(5, shape) + _element(1, b"X")
    matrix += _element(2, bytes(1000), size=claimed)
    body = zlib.compress(_element(14, matrix))
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path = tmp_path / "bomb.mat"
    path.write_bytes(header + struct.pack("<II", 15, len(body)) + body)
    with peak_memory(5 << 20), pytest.raises(ValueError, match=r"bomb\.mat"):
        read_mat5(path, ["X"])


def test_arrays_beyond_the_limit_are_refused(tmp_path, monkeypatch):
    savemat(tmp_path / "a.mat", {"X": np.zeros((1000,), np.uint8)}, do_compression=True)
    monkeypatch.setattr("dltrain.data.mat5.MAX_BYTES", 999)
    with pytest.raises(ValueError, match=r"`X` of shape .* has 1,000 bytes"):
        read_mat5(tmp_path / "a.mat", ["X"])


def test_other_variables_are_not_unfolded(tmp_path):
    path = tmp_path / "big.mat"
    savemat(path, {"big": np.zeros((100 << 20,), np.uint8), "y": Y}, do_compression=True)
    with peak_memory(5 << 20):
        assert np.array_equal(read_mat5(path, ["y"])["y"], Y)
