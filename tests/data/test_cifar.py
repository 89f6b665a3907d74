"""CIFAR-10 and -100 in all their published forms."""

import pickle

import numpy as np
import pytest
from data_files import images, write_cifar10, write_cifar100, write_tar

from dltrain.data.cifar10 import CIFAR10
from dltrain.data.cifar100 import CIFAR100

FOLDERS = {
    "python2": "cifar-10-batches-py",
    "python3": "cifar-10-batches-py",
    "binary": "cifar-10-batches-bin",
}


def make(root, cls=CIFAR10, **options):
    facts = {"image_shape": [3, 32, 32], "mean": [0.5] * 3, "std": [0.25] * 3}
    facts["num_classes"] = 10 if cls is CIFAR10 else 100
    others = {"download": False, "num_val": 10, "split_seed": 0}
    return cls(root=str(root), **(facts | others | options))


@pytest.mark.parametrize("in_root", [False, True])
@pytest.mark.parametrize("layout", FOLDERS)
def test_cifar10_in_every_form(tmp_path, layout, in_root):
    everything = write_cifar10(tmp_path / ("." if in_root else FOLDERS[layout]), layout=layout)
    splits = make(tmp_path, num_val=0).load()
    assert [len(split.targets) for split in splits.values()] == [100, 0, 20]
    assert np.array_equal(splits["train"].inputs, everything[:100])
    assert np.array_equal(splits["test"].inputs, everything[100:])
    assert splits["train"].targets.tolist() == [i % 10 for i in range(100)]
    assert splits["test"].targets.dtype == np.int64
    assert splits["test"].inputs.flags.writeable


@pytest.mark.parametrize("layout", ["python", "binary"])
def test_cifar100_takes_the_fine_labels(tmp_path, layout):
    write_cifar100(tmp_path / f"cifar-100-{layout}", layout=layout)
    (tmp_path / "train").mkdir()  # a folder of images beside it is none of its files
    splits = make(tmp_path, CIFAR100).load()
    assert np.array_equal(splits["test"].inputs, images(200, 3, 32, seed=1))
    assert splits["test"].targets.tolist() == [i % 100 for i in range(200)]
    assert [len(split.targets) for split in splits.values()] == [190, 10, 200]


def test_class_names():
    assert len(CIFAR10.classes) == 10
    assert len(CIFAR100.classes) == 100 == len(set(CIFAR100.classes))
    assert list(CIFAR100.classes) == sorted(CIFAR100.classes)


@pytest.mark.parametrize("layout", ["python2", "binary"])
def test_an_archive_in_root_is_extracted(tmp_path, layout):
    write_cifar10(tmp_path / "made", layout=layout)
    members = {
        f"{FOLDERS[layout]}/{path.name}": path.read_bytes()
        for path in (tmp_path / "made").iterdir()
    }
    name = "cifar-10-python.tar.gz" if layout == "python2" else "cifar-10-binary.tar.gz"
    (tmp_path / "root").mkdir()
    write_tar(tmp_path / "root" / name, members | {f"{FOLDERS[layout]}/readme.html": b"<html>"})
    assert len(make(tmp_path / "root").load()["train"].targets) == 90
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == sorted(
        [FOLDERS[layout], name]
    )
    (tmp_path / "root" / name).unlink()
    assert len(make(tmp_path / "root").load()["train"].targets) == 90


def test_without_files_the_message_says_where_and_how(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        make(tmp_path).load()
    message = str(caught.value)
    assert message.count("\n") < 6
    for part in ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-10-python.tar.gz"):
        assert part in message
    assert "dataset.download=true" in message
    assert str(tmp_path) in message


def test_a_missing_batch_is_named(tmp_path):
    write_cifar10(tmp_path / "cifar-10-batches-py", layout="python2")
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(FileNotFoundError, match=r"cifar-10-batches-py lacks data_batch_3;"):
        make(tmp_path).load()


GOOD = {"data": np.zeros((20, 3072), np.uint8), "labels": [0] * 20}
BAD_BATCHES = {
    "no data": ({"labels": [0] * 20}, "no array of bytes named `data`"),
    "no labels": ({"data": GOOD["data"]}, "no list of whole numbers named `labels`"),
    "floats": (GOOD | {"data": np.zeros((20, 3072))}, "no array of bytes"),
    "shape": (GOOD | {"data": np.zeros((20, 100), np.uint8)}, r"shape \[20, 100\]"),
    "count": (GOOD | {"labels": [0] * 19}, "20 images and 19 labels"),
    "kind of labels": (GOOD | {"labels": ["a"] * 20}, "no list of whole numbers"),
    "huge label": (GOOD | {"labels": [2**70] * 20}, "its labels reach"),
    "label": (GOOD | {"labels": [10] * 20}, "labels from 10 to 10, but"),
    "short batch": (
        {"data": GOOD["data"][:9], "labels": [0] * 9},
        "has 9 samples; expected 20, as its",
    ),
    "list": ([], "holds a list; expected a dictionary"),
}


@pytest.mark.parametrize("content", BAD_BATCHES)
def test_bad_batches_are_refused(tmp_path, content):
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar10(folder, layout="python3")
    batch, message = BAD_BATCHES[content]
    (folder / "data_batch_2").write_bytes(pickle.dumps(batch, 2))
    with pytest.raises(ValueError, match=message) as caught:
        make(tmp_path).load()
    assert str(folder) in str(caught.value) or str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("change", ["truncated", "empty", "web page"])
@pytest.mark.parametrize("layout", ["python2", "binary"])
def test_damaged_files_are_refused(tmp_path, layout, change):
    folder = tmp_path / FOLDERS[layout]
    write_cifar10(folder, layout=layout)
    path = folder / ("data_batch_4" if layout == "python2" else "data_batch_4.bin")
    content = {"truncated": path.read_bytes()[:-1000], "empty": b"", "web page": b"<html>" * 99}
    path.write_bytes(content[change])
    with pytest.raises(ValueError, match="expected") as caught:
        make(tmp_path).load()
    assert str(path) in str(caught.value)
    if change != "truncated":
        assert f"The file is {'a ' if 'web' in change else ''}{change}" in str(caught.value)
