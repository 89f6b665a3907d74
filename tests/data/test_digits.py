"""The digits inside scikit-learn: found without importing it, and equal to what it gives."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dltrain.data.digits as digits
from dltrain.data.digits import Digits


def make(**options):
    facts = {"num_classes": 10, "image_shape": [1, 8, 8], "mean": [0.3], "std": [0.4]}
    return Digits(**(facts | {"split_seed": 0} | options))


def test_sizes_and_types():
    splits = make().load()
    assert [len(split.targets) for split in splits.values()] == [1257, 180, 360]
    assert list(splits) == ["train", "val", "test"]
    for inputs, targets in splits.values():
        assert inputs.shape[1:] == (1, 8, 8)
        assert (inputs.dtype, targets.dtype) == (np.uint8, np.int64)
        assert inputs.flags.writeable
        counts = np.bincount(targets, minlength=10) / len(targets)
        assert np.abs(counts - 0.1).max() < 0.01


def test_values_are_scikit_learns():
    datasets = pytest.importorskip("sklearn.datasets")
    expected = datasets.load_digits()
    everything = digits._read(digits._find())
    assert np.array_equal(everything.inputs[:, 0] / 15, expected.images)
    assert np.array_equal(everything.targets, expected.target)


def test_splits_are_disjoint_and_change_with_the_seed():
    splits = make().load()
    together = np.concatenate([split.inputs for split in splits.values()]).reshape(1797, 64)
    everything = digits._read(digits._find()).inputs.reshape(1797, 64)
    assert sorted(map(bytes, together)) == sorted(map(bytes, everything))
    assert np.array_equal(make().load()["test"].inputs, splits["test"].inputs)
    assert not np.array_equal(make(split_seed=1).load()["test"].inputs, splits["test"].inputs)


def test_neither_scikit_learn_nor_torch_is_imported():
    code = (
        "import sys; from dltrain.data.digits import Digits;"
        "Digits(num_classes=10, image_shape=[1, 8, 8], mean=[0], std=[1], split_seed=0).load();"
        "print(sorted({'torch', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(digits.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install scikit-learn"):
        make().load()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not gzip",
        b"\x1f\x8b",
        *(
            gzip.compress(text)
            for text in (
                b"1,2,3\n",
                b"0," * 64 + b"a\n",
                b"# nothing\n" * 1797,
                b"\n" * 1797,
                (b"0," * 64 + b"a\n") * 1797,
                (b"0," * 64 + b"10\n") * 1797,
                (b"17," * 64 + b"1\n") * 1797,
                (b"-1," * 64 + b"1\n") * 1797,
                ((b"9" * 30 + b",") * 64 + b"1\n") * 1797,
                (b"0," * 63 + b"1\n") * 1797,
                (b"0," * 64 + b"1\n") * 1796,
                b"1," * (1 << 22),
                "zéro".encode(),
            )
        ),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, monkeypatch, content):
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(content)
    monkeypatch.setattr(digits, "_find", lambda: path)
    with pytest.raises(ValueError, match=r"digits\.csv\.gz(: .*; expected| holds labels .* must)"):
        make().load()


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_refused(tmp_path, monkeypatch, put):
    path = tmp_path / "digits.csv.gz"
    put(path)
    monkeypatch.setattr(digits, "_find", lambda: path)
    with pytest.raises(ValueError, match=r"digits\.csv\.gz: it is a \w+; expected"):
        make().load()


def test_wrong_facts_are_refused():
    with pytest.raises(ValueError, match=r"image_shape is \[1, 28, 28\]"):
        make(image_shape=[1, 28, 28]).load()
    with pytest.raises(ValueError, match=r"num_classes 9"):
        make(num_classes=9).load()
