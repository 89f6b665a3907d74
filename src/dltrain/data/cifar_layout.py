"""How CIFAR-10 and CIFAR-100 lie on a disk: pickled or binary batches, or the archive of either."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dltrain.data.archive import extract
from dltrain.data.arrays import Arrays
from dltrain.data.download import Progress, download
from dltrain.data.files import not_found, read_file, refuse
from dltrain.data.pickles import read_pickle
from dltrain.data.published import PublishedDataset

_IMAGE_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
# The archives hold 186 MB.
_MAX_ARCHIVE_BYTES = 256 << 20


class Layout(NamedTuple):
    """One of the published forms: a folder, its archive, its files, and how one of them is read."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    read: Callable[[Path], Arrays]

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test)


def read_layouts(
    dataset: PublishedDataset, layouts: Sequence[Layout], progress: Progress | None
) -> tuple[Arrays, Arrays]:
    """Training and test set from the first form found: root/FOLDER, root, then root/ARCHIVE."""
    root, (remote,) = dataset.root, dataset.files
    found = _find(root, layouts)
    if found is None and dataset.download:
        download(remote, root, progress)
        found = _find(root, layouts)
    if found is None:
        names = [f"{layout.folder}/ or {layout.archive}" for layout in layouts]
        not_found(dataset.title, " or ".join(names), [root], remote.urls)
    layout, folder = found
    lacking = [name for name in layout.files if not (folder / name).exists()]
    if lacking:
        raise FileNotFoundError(
            f"{dataset.title}: {folder.absolute()} lacks {', '.join(lacking)}; remove what is "
            "there and add `dataset.download=true` to get all of it"
        )
    return _read_train(layout, folder), layout.read(folder / layout.test)


def _find(root: Path, layouts: Sequence[Layout]) -> tuple[Layout, Path] | None:
    for layout in layouts:
        for folder in (root / layout.folder, root):
            # is_file: a folder of images may be called `train`, too
            if any((folder / name).is_file() for name in layout.files):
                return layout, folder
    for layout in layouts:
        archive = root / layout.archive
        if archive.exists():
            extract(archive, layout.folder, layout.files, max_bytes=_MAX_ARCHIVE_BYTES)
            return layout, root / layout.folder
    return None


def _read_train(layout: Layout, folder: Path) -> Arrays:
    batches = [layout.read(folder / name) for name in layout.train]
    counts = [len(batch.targets) for batch in batches]
    if len(set(counts)) > 1:
        raise ValueError(
            f"{folder}: {', '.join(layout.train)} hold {counts} samples; all must hold the same "
            "number. Remove the incomplete ones and get them again"
        )
    if len(batches) == 1:
        return batches[0]
    return Arrays(*(np.concatenate(column) for column in zip(*batches, strict=True)))


def read_python_batch(path: Path, *, labels: str) -> Arrays:
    """A pickled dictionary with `data`, uint8 [N, 3072], and, named by labels, N whole numbers."""
    content = read_pickle(path)
    images, targets = content.get("data"), content.get(labels)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        refuse(path, f"it has no array of bytes named `data` (it has {sorted(content)})", "one")
    if images.ndim != 2 or images.shape[1] != _PIXELS:
        refuse(path, f"its `data` has shape {list(images.shape)}", f"[N, {_PIXELS}]")
    if not isinstance(targets, list) or not all(type(label) is int for label in targets):
        refuse(path, f"it has no list of whole numbers named `{labels}`", "one")
    if len(targets) != len(images):
        refuse(
            path, f"it has {len(images):,} images and {len(targets):,} labels", "as many of both"
        )
    if not all(0 <= label < 256 for label in targets):
        refuse(path, f"its labels reach {max(targets, key=abs)}", "class numbers")
    # a copy, because what is read from a pickle is read-only
    return Arrays(images.reshape(-1, *_IMAGE_SHAPE).copy(), np.array(targets, np.int64))


def read_binary_batch(path: Path, *, num_label_bytes: int) -> Arrays:
    """Records of label bytes, the last of which is taken, and 3072 bytes of pixels."""
    data = read_file(path)
    record = num_label_bytes + _PIXELS
    if not data or len(data) % record:
        refuse(path, f"it has {len(data):,} bytes", f"records of {record:,} bytes, all whole")
    records = np.frombuffer(data, np.uint8).reshape(-1, record)
    images = np.ascontiguousarray(records[:, num_label_bytes:]).reshape(-1, *_IMAGE_SHAPE)
    return Arrays(images, records[:, num_label_bytes - 1].astype(np.int64))
