"""Data that may not be read, and an archive whose folder may not be written."""

import os
from pathlib import Path

import pytest
from data_files import MNIST_NAMES, write_cifar10, write_mnist, write_svhn
from malformed_archives import GOOD, NAME
from malformed_run import in_process, snapshot

pytestmark = pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")


def _mnist(root: Path) -> None:
    write_mnist(root)


def _cifar10(root: Path) -> None:
    write_cifar10(root / "cifar-10-batches-py", layout="python2")


def _svhn(root: Path) -> None:
    for name in ("train_32x32.mat", "test_32x32.mat"):
        write_svhn(root / name, num=20, compressed=True)


def _archive(root: Path) -> None:
    root.mkdir()
    (root / NAME).write_bytes(GOOD)


FORBIDDEN = {
    "mnist, a file": ("mnist", _mnist, MNIST_NAMES[0], 0, "you may not read it"),
    "mnist, its root": ("mnist", _mnist, "", 0, "you may not read it"),
    "cifar10, a file": ("cifar10", _cifar10, "cifar-10-batches-py/test_batch", 0, "you may not"),
    "svhn, a file": ("svhn", _svhn, "train_32x32.mat", 0, "you may not read it"),
    "an archive": ("cifar10", _archive, NAME, 0, "you may not read it"),
    "an archive's folder": ("cifar10", _archive, "", 0o555, "cannot be unpacked, for its folder"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_is_forbidden_is_said(tmp_path, name):
    dataset, make, at, mode, found = FORBIDDEN[name]
    root = tmp_path / "root"
    make(root)
    before = snapshot(root)
    usual = (root / at).stat().st_mode
    (root / at).chmod(mode)
    try:
        with pytest.raises(ValueError, match=f"{found}[^;]*; expected") as caught:
            in_process(dataset, root).load()
    finally:
        (root / at).chmod(usual)
    assert str(root / at) in str(caught.value)
    assert snapshot(root) == before
