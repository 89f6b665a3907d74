"""How CIFAR-10 and CIFAR-100 lie on a disk: pickled or binary batches, or the archive of either."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dltrain.data.archive import extracted
from dltrain.data.arrays import Arrays, check_labels
from dltrain.data.download import Progress, download
from dltrain.data.files import not_found, open_file, printable, refuse
from dltrain.data.pickles import read_pickle
from dltrain.data.published import PublishedDataset

_IMAGE_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
# The archives hold 186 MB.
_MAX_ARCHIVE_BYTES = 256 << 20
_RECORDS_PER_READ = 1000


class Layout(NamedTuple):
    """One of the published forms: a folder, its archive, its files, and how one of them is read."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    read: Callable[[Path, int], Arrays]  # the second is the number of classes

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test)


def read_layouts(
    dataset: PublishedDataset, layouts: Sequence[Layout], progress: Progress | None
) -> tuple[Arrays, Arrays]:
    """Training and test set from the first form found: root/FOLDER, root, then root/ARCHIVE."""
    root, (remote,) = dataset.root, dataset.files
    for known in layouts:
        for folder in (root / known.folder, root):
            # is_file: a folder of images may be called `train`, too
            if any((folder / name).is_file() for name in known.files):
                return _read_files(known, folder, dataset)
    layout = _find_archive(root, layouts)
    if layout is None and dataset.download:
        download(remote, root, progress)
        layout = _find_archive(root, layouts)
    if layout is None:
        names = [f"{known.folder}/ or {known.archive}" for known in layouts]
        not_found(dataset.title, " or ".join(names), [root], remote.urls)
    with extracted(
        root / layout.archive, layout.folder, layout.files, max_bytes=_MAX_ARCHIVE_BYTES
    ) as folder:
        return _read_files(layout, folder, dataset)


def _find_archive(root: Path, layouts: Sequence[Layout]) -> Layout | None:
    return next((each for each in layouts if os.path.lexists(root / each.archive)), None)


def _read_files(layout: Layout, folder: Path, dataset: PublishedDataset) -> tuple[Arrays, Arrays]:
    lacking = [name for name in layout.files if not os.path.lexists(folder / name)]
    if lacking:
        raise FileNotFoundError(
            f"{dataset.title}: {folder.absolute()} lacks {', '.join(lacking)}; remove what is "
            "there and add `dataset.download=true` to get all of it"
        )
    test, *batches = (
        layout.read(folder / name, dataset.num_classes) for name in (layout.test, *layout.train)
    )
    counts = [len(batch.targets) for batch in batches]
    usual = max(counts, key=counts.count)
    for name, count in zip(layout.train, counts, strict=True):
        if count != usual:
            refuse(folder / name, f"it has {count:,} samples", f"{usual:,}, as its siblings have")
    return _joined(batches), test


def _joined(batches: list[Arrays]) -> Arrays:
    """All in one, and the list emptied on the way: at no time is everything there twice."""
    if len(batches) == 1:
        return batches[0]
    targets = np.concatenate([batch.targets for batch in batches])
    images = np.empty((len(targets), *_IMAGE_SHAPE), np.uint8)
    end = len(targets)
    while batches:
        batch = batches.pop().inputs
        images[end - len(batch) : end] = batch
        end -= len(batch)
    return Arrays(images, targets)


def read_python_batch(path: Path, num_classes: int, *, labels: str) -> Arrays:
    """A pickled dictionary with `data`, uint8 [N, 3072], and, named by labels, N whole numbers."""
    content = read_pickle(path)
    images, targets = content.get("data"), content.get(labels)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        keys = printable(", ".join(sorted(content)))
        refuse(path, f"it has no array of bytes named `data` (it has {keys})", "one")
    if images.ndim != 2 or images.shape[1] != _PIXELS:
        refuse(path, f"its `data` has shape {list(images.shape)}", f"[N, {_PIXELS}]")
    if not isinstance(targets, list) or not all(type(label) is int for label in targets):
        refuse(path, f"it has no list of whole numbers named `{labels}`", "one")
    if len(targets) != len(images):
        refuse(
            path, f"it has {len(images):,} images and {len(targets):,} labels", "as many of both"
        )
    if not all(-(2**63) <= label < 2**63 for label in targets):
        refuse(path, "its labels reach beyond 64 bits", f"0 to {num_classes - 1}")
    checked = np.array(targets, np.int64)
    check_labels(checked, num_classes, path)
    images = np.require(images, requirements=["C", "W"])  # small ones are read-only
    return Arrays(images.reshape(-1, *_IMAGE_SHAPE), checked)


def read_binary_batch(
    path: Path, num_classes: int, *, num_label_bytes: int, max_records: int
) -> Arrays:
    """Records of label bytes, the last of which is taken, and 3072 bytes of pixels."""
    record = num_label_bytes + _PIXELS
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        count = size // record
        if size % record or not 0 < count <= max_records:
            most = f"{max_records:,} records of {record:,} bytes"
            refuse(path, f"it has {size:,} bytes", f"1 to {most}, all whole")
        images, targets = np.empty((count, _PIXELS), np.uint8), np.empty(count, np.int64)
        for begin in range(0, count, _RECORDS_PER_READ):
            piece = slice(begin, min(begin + _RECORDS_PER_READ, count))
            data = file.read((piece.stop - begin) * record)
            records = np.frombuffer(data, np.uint8).reshape(-1, record)
            images[piece], targets[piece] = (
                records[:, num_label_bytes:],
                records[:, num_label_bytes - 1],
            )
            check_labels(targets[piece], num_classes, path)
    return Arrays(images.reshape(-1, *_IMAGE_SHAPE), targets)
