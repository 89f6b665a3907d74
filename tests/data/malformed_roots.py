"""Data sets whose root is not a folder of data."""

import os
from collections.abc import Callable
from pathlib import Path

from malformed_bytes import Case, socket_at

DATASETS = ("mnist", "cifar10", "cifar100", "svhn")


def _a_file(root: Path) -> None:
    root.write_bytes(b"data")


ROOTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (str, "looked in "),
    "empty": (Path.mkdir, "looked in "),
    "a file": (_a_file, "it is a file; expected a folder"),
    "a pipe": (os.mkfifo, "it is a pipe; expected a folder"),
    "a socket": (socket_at, "it is a socket; expected a folder"),
    "a device": (lambda root: root.symlink_to("/dev/null"), "it is a device; expected a folder"),
    "a link to nothing": (lambda root: root.symlink_to("gone"), "it is a link to nothing"),
    "a link to itself": (lambda root: root.symlink_to(root), "it is a link to nothing"),
}

CASES = {
    f"{name} for {dataset}": Case(dataset, make, message)
    for name, (make, message) in ROOTS.items()
    for dataset in DATASETS
}
