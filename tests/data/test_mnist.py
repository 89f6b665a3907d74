"""MNIST and its replacements: where their files are found, and what is refused."""

import gzip
import os

import numpy as np
import pytest
from data_files import MNIST_NAMES, idx_bytes, images, peak_memory, write_mnist

from dltrain.data.fashion_mnist import FashionMNIST
from dltrain.data.kmnist import KMNIST
from dltrain.data.mnist import MNIST

IMAGES, LABELS = MNIST_NAMES[:2]


def make(root, cls=MNIST, **options):
    facts = {"num_classes": 10, "image_shape": [1, 28, 28], "mean": [0.1], "std": [0.3]}
    others = {"download": False, "num_val": 10, "split_seed": 0}
    return cls(root=str(root), **(facts | others | options))


@pytest.mark.parametrize("gz", [False, True], ids=["raw", "gz"])
@pytest.mark.parametrize("folder", ["MNIST/raw", "raw", "MNIST", "."])
def test_found_in_every_place(tmp_path, folder, gz):
    write_mnist(tmp_path / folder, gz=gz)
    splits = make(tmp_path).load()
    assert {name: len(split.targets) for name, split in splits.items()} == {
        "train": 30,
        "val": 10,
        "test": 20,
    }
    assert np.array_equal(splits["test"].inputs, images(20, seed=1))
    assert splits["test"].targets.tolist() == [i % 10 for i in range(20)]
    for inputs, targets in splits.values():
        assert (inputs.dtype, targets.dtype) == (np.uint8, np.int64)
        assert inputs.flags.writeable  # torch warns of arrays that are not


@pytest.mark.parametrize("cls", [FashionMNIST, KMNIST])
def test_replacements_have_their_own_folder(tmp_path, cls):
    write_mnist(tmp_path / cls.title / "raw")
    assert len(make(tmp_path, cls).load()["test"].targets) == 20
    with pytest.raises(FileNotFoundError):
        make(tmp_path).load()


def test_names_with_a_dot_are_known_too(tmp_path):
    write_mnist(tmp_path)
    for name in MNIST_NAMES:
        (tmp_path / name).rename(tmp_path / name.replace("-idx", ".idx"))
    assert len(make(tmp_path).load()["train"].targets) == 30


def test_training_and_validation_set_are_the_published_training_set(tmp_path):
    write_mnist(tmp_path)
    splits = make(tmp_path, num_val=7).load()
    together = np.concatenate([splits["train"].inputs, splits["val"].inputs])
    key = lambda array: sorted(image.tobytes() for image in array)  # noqa: E731
    assert key(together) == key(images(40))


def test_without_files_the_message_says_where_and_how(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        make(tmp_path / "data").load()
    message = str(caught.value)
    assert message.count("\n") < 6
    for part in (*MNIST_NAMES, str(tmp_path / "data/MNIST/raw"), "dataset.download=true"):
        assert part in message
    assert "train-images-idx3-ubyte.gz" in message
    assert "https://ossci-datasets.s3.amazonaws.com/mnist " in message


def test_a_missing_half_is_named_alone(tmp_path):
    write_mnist(tmp_path / "raw")
    (tmp_path / "raw" / LABELS).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        make(tmp_path).load()
    assert LABELS in str(caught.value)
    assert IMAGES not in str(caught.value)
    assert "MNIST/raw" not in str(caught.value)


GOOD = idx_bytes(images(40)[:, 0])
BAD_FILES = {
    "empty": (b"", "header.*is empty"),
    "only a header": (GOOD[:16], "ends after 0 bytes of 40 samples; expected 31,360"),
    "truncated": (GOOD[:-1], "ends after 31,359 bytes"),
    "too long": (GOOD + b"x", "goes on after 40 samples"),
    "labels in place of images": (idx_bytes(np.arange(40)), "magic number is 00000801"),
    "web page": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "web page with space": (b"\n  <html>" + b" " * 100, "web page"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "zeros": (bytes(40_000), "begins with zeros"),
    "gzip under a raw name": (gzip.compress(GOOD), "is compressed with gzip"),
    "other size": (idx_bytes(images(4, size=32)[:, 0]), r"shape \[32, 32\]; expected \[28, 28\]"),
    "no samples": (idx_bytes(images(0)[:, 0]), "announces 0 samples"),
    "four billion": (GOOD[:4] + b"\xff" * 4 + GOOD[8:], "announces 4,294,967,295 samples"),
    "too many bytes": (
        GOOD[:4] + b"\x00\x50\x00\x00" + GOOD[8:],
        "5,242,880 images, but .* 40 labels",
    ),
    "other count": (idx_bytes(images(39)[:, 0]), "39 images, but .* 40 labels"),
}


@pytest.mark.parametrize("gz", [False, True], ids=["raw", "gz"])
@pytest.mark.parametrize("content", BAD_FILES)
def test_bad_images_are_refused(tmp_path, content, gz):
    data, message = BAD_FILES[content]
    write_mnist(tmp_path)
    path = tmp_path / IMAGES
    if gz:
        path.unlink()
        path = tmp_path / f"{IMAGES}.gz"
        data = gzip.compress(data)
        message = message.split(".*")[0] if ".*is empty" in message else message
    path.write_bytes(data)
    if gz and ("page" in content or "LFS" in content or "zeros" in content or "gzip" in content):
        message = "magic number|ends after"
    with pytest.raises(ValueError, match=message) as caught:
        make(tmp_path).load()
    assert str(path) in str(caught.value)


def test_labels_out_of_range_are_refused(tmp_path):
    write_mnist(tmp_path)
    with pytest.raises(ValueError, match=r"labels from 0 to 9, but with dataset\.num_classes 5"):
        make(tmp_path, num_classes=5).load()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "bad checksum", "not gzip"])
def test_damaged_gzip_is_refused(tmp_path, damage):
    write_mnist(tmp_path, gz=True)
    path = tmp_path / f"{IMAGES}.gz"
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        del data[len(data) // 2 :]
    elif damage == "flipped":
        data[len(data) // 2] ^= 255
    elif damage == "bad checksum":
        data[-8] ^= 1
    else:
        data = bytearray(b"<html>nothing here</html>")
    path.write_bytes(data)
    with pytest.raises(ValueError, match="gzip compression is damaged"):
        make(tmp_path).load()


def test_a_gzip_bomb_is_not_unfolded(tmp_path):
    write_mnist(tmp_path, gz=True)
    bomb = idx_bytes(images(40)[:, 0]) + bytes(300 << 20)
    (tmp_path / f"{IMAGES}.gz").write_bytes(gzip.compress(bomb, 1))
    del bomb
    with peak_memory(10 << 20), pytest.raises(ValueError, match="goes on after 40 samples"):
        make(tmp_path).load()


def test_what_is_not_a_regular_file_is_refused(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / IMAGES).unlink()
    os.mkfifo(tmp_path / IMAGES)  # reading it would wait for ever
    with pytest.raises(ValueError, match="it is a pipe; expected a regular file"):
        make(tmp_path).load()
