"""Where MNIST and its drop-in replacements keep their four IDX files, and how to get them."""

import gzip
import shutil
from pathlib import Path

import numpy as np

from dltrain.data.arrays import Arrays, check_labels
from dltrain.data.download import Progress, Remote, download, replacing
from dltrain.data.files import find_file, naming, not_found
from dltrain.data.idx import read_count, read_idx
from dltrain.data.published import PublishedDataset

_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_IMAGE_SIZE = (28, 28)


def idx_files(
    mirrors: tuple[str, ...],
    *,
    train_images: tuple[int, str],
    train_labels: tuple[int, str],
    test_images: tuple[int, str],
    test_labels: tuple[int, str],
) -> tuple[Remote, ...]:
    """The four files as published: each with its bytes and its MD5, compressed."""
    published = (train_images, train_labels, test_images, test_labels)
    return tuple(
        Remote(f"{name}.gz", tuple(f"{mirror}{name}.gz" for mirror in mirrors), size, f"md5:{md5}")
        for name, (size, md5) in zip(_NAMES, published, strict=True)
    )


def read_split_files(dataset: PublishedDataset, progress: Progress | None) -> tuple[Arrays, Arrays]:
    """Training and test set from root/TITLE/raw (as in torchvision), root/raw, root/TITLE or root.

    The first of these folders that has any of the files must have all of them, raw or `.gz`.
    """
    root, title = dataset.root, dataset.title
    folders = [root / title / "raw", root / "raw", root / title, root]
    has_any = (folder for folder in folders if any(_find(folder, name) for name in _NAMES))
    folder = next(has_any, folders[0])
    if dataset.download:
        for name, remote in zip(_NAMES, dataset.files, strict=True):
            if _find(folder, name) is None:
                _unpack(download(remote, folder, progress))
    lacking = [name for name in _NAMES if _find(folder, name) is None]
    if lacking:
        urls = [remote.urls[0] for remote in dataset.files if remote.name[:-3] in lacking]
        places = folders if len(lacking) == len(_NAMES) else [folder]
        not_found(title, f"{', '.join(lacking)} (raw or .gz)", places, urls)
    train_images, train_labels, test_images, test_labels = (
        _existing(folder, name) for name in _NAMES
    )
    num_classes = dataset.num_classes
    test = _read_pair(test_images, test_labels, num_classes)  # the smaller ones first: 0.02 s
    return _read_pair(train_images, train_labels, num_classes), test


def _find(folder: Path, name: str) -> Path | None:
    """Raw before compressed; `train-images.idx3-ubyte` is a name that circulates, too."""
    dotted = name.replace("-idx", ".idx")
    return find_file(folder, (name, dotted, f"{name}.gz", f"{dotted}.gz"))


def _existing(folder: Path, name: str) -> Path:
    path = _find(folder, name)
    assert path is not None, name
    return path


def _read_pair(images_path: Path, labels_path: Path, num_classes: int) -> Arrays:
    """The images only once all else is right: memory is for what agrees with its labels."""
    num_images, num_labels = read_count(images_path, _IMAGE_SIZE), read_count(labels_path, ())
    if num_images != num_labels:
        raise ValueError(
            f"{images_path} holds {num_images:,} images, but {labels_path} holds {num_labels:,} "
            "labels; they must be of the same set"
        )
    labels = read_idx(labels_path, ()).astype(np.int64)
    check_labels(labels, num_classes, labels_path)
    return Arrays(read_idx(images_path, _IMAGE_SIZE)[:, None], labels)


def _unpack(compressed: Path) -> None:
    """Raw in its place, which every start reads ten times faster. Its checksum was right."""
    with (
        replacing(compressed.with_suffix("")) as part,
        naming(part, f"what {compressed.name} unpacks to"),
        gzip.open(compressed) as source,
        part.open("xb") as target,
    ):
        shutil.copyfileobj(source, target, 1 << 20)
    compressed.unlink()
