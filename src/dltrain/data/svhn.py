"""SVHN: 99,289 digits cropped from photographs of house numbers, 32x32 colour."""

import math
import os
from pathlib import Path

import numpy as np

from dltrain.data.arrays import Arrays, check_labels
from dltrain.data.download import Progress, Remote, download
from dltrain.data.files import not_found, refuse
from dltrain.data.mat5 import read_mat5, read_shapes
from dltrain.data.published import PublishedDataset

_URL = "http://ufldl.stanford.edu/housenumbers/"


class SVHN(PublishedDataset):
    """73,257 digits to train on and 26,032 to test (Netzer et al. 2011), format 2: cropped digits.

    Found as root/train_32x32.mat and root/test_32x32.mat, or both in root/SVHN or root/svhn. The
    published label of the digit 0 is 10; here it is 0.
    """

    title = "SVHN"
    classes = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    files = (
        Remote(
            "train_32x32.mat",
            (f"{_URL}train_32x32.mat",),
            182_040_794,
            "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
        ),
        Remote(
            "test_32x32.mat",
            (f"{_URL}test_32x32.mat",),
            64_275_384,
            "md5:eb5a983be6a315427106f1b164d9cef3",
        ),
    )

    def _read(self, progress: Progress | None) -> tuple[Arrays, Arrays]:
        folders = [self.root, self.root / "SVHN", self.root / "svhn"]
        has_any = (
            f for f in folders if any(os.path.lexists(f / remote.name) for remote in self.files)
        )
        folder = next(has_any, self.root)
        lacking = [remote for remote in self.files if not os.path.lexists(folder / remote.name)]
        if self.download:
            for remote in lacking:
                download(remote, folder, progress)
        elif lacking:
            places = folders if len(lacking) == len(self.files) else [folder]
            names = ", ".join(remote.name for remote in lacking)
            not_found(self.title, names, places, [remote.urls[0] for remote in lacking])
        train, test = (_read_mat(folder / remote.name, self.num_classes) for remote in self.files)
        return train, test


def _read_mat(path: Path, num_classes: int) -> Arrays:
    """X, uint8 [32, 32, 3, N] with columns first, and y, [N, 1] with values 1 to 10.

    X only once all else is right: memory is for what agrees with its labels.
    """
    shapes = read_shapes(path, ("X", "y"))
    if missing := {"X", "y"} - shapes.keys():
        refuse(path, f"it has no variable {' and '.join(sorted(missing))}", "X and y")
    num_images, num_labels = shapes["X"][-1:], math.prod(shapes["y"])
    if shapes["X"][:-1] != (32, 32, 3):
        refuse(path, f"its X has shape {list(shapes['X'])}", "[32, 32, 3, N]")
    if num_images != (num_labels,):
        refuse(
            path, f"it has {num_images[0]:,} images and {num_labels:,} labels", "as many of both"
        )
    labels = read_mat5(path, ("y",))["y"].reshape(-1)
    if not np.isin(labels, range(1, 11)).all():
        refuse(path, f"its labels run from {labels.min()} to {labels.max()}", "1 to 10")
    targets = labels.astype(np.int64) % 10
    check_labels(targets, num_classes, path)
    images = read_mat5(path, ("X",))["X"]
    if images.dtype != np.uint8:
        refuse(path, f"its X has type {images.dtype}", "uint8")
    return Arrays(np.ascontiguousarray(images.transpose(3, 2, 0, 1)), targets)
