"""Which folder of an image folder is which split, and what is held out where there is none."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from dltrain.data.arrays import check_count, stratified_split
from dltrain.data.files import check_root, printable
from dltrain.data.folder_scan import Files, Scan, class_folders, has_images, shown, some

_NAMES = {"train": (b"train",), "val": (b"val", b"valid", b"validation"), "test": (b"test",)}


def folder_of(root: str | Path) -> Path:
    """The root as a folder that is there. Raises ValueError for anything else."""
    path = Path(os.path.expanduser(root))
    check_root(path)
    if not path.is_dir():
        raise ValueError(
            f"dataset.root is {printable(str(path.absolute()), 200)}: there is nothing; expected "
            "a folder of images by class: train/CLASS/*.jpg and val/CLASS/*.jpg, or CLASS/*.jpg"
        )
    return path


def find_splits(root: Path) -> dict[str, bytes]:
    """The folder of each split, below root; none where root is one tree of classes.

    A class may be called train: it is the training set only beside a val or a test, or if there
    are folders in it.
    """
    top = os.fsencode(root)
    there = set(class_folders(top))
    found: dict[str, bytes] = {}
    for split, names in _NAMES.items():
        some_of = [name for name in names if name in there]
        if len(some_of) > 1:
            raise ValueError(
                f"{shown(top)}: it has {some(some_of)}; expected one folder of images for {split}"
            )
        if some_of:
            found[split] = some_of[0]
    if found and "train" not in found and len(there) == len(found):
        raise ValueError(
            f"{shown(top)}: it has {some(sorted(found.values()))} and no train; expected train, "
            "with one folder for each class"
        )
    if "train" not in found or not (len(found) > 1 or class_folders(top + b"/train")):
        return {}
    return found


def class_names(root: Path) -> list[bytes]:
    """The names of the classes, sorted, by a look at one folder."""
    within = find_splits(root).get("train", b"")
    return class_folders(os.path.join(os.fsencode(root), within))


def is_unlabelled(root: Path, within: bytes) -> bool:
    """Images without class folders: a competition's test set."""
    path = os.path.join(os.fsencode(root), within)
    return not class_folders(path) and has_images(path)


def check_classes(root: Path, train: Scan, other: Scan, split: str) -> Files:
    """The files of val or test, with the numbers that the training set has for their classes."""
    numbers = {name: number for number, name in enumerate(train.classes)}
    present = np.unique(other.files.targets).tolist()
    alien = [other.classes[each] for each in present if other.classes[each] not in numbers]
    if alien:
        raise ValueError(
            f"{printable(str(root), 200)}: classes in {split} that are not in train: {some(alien)}"
            "\nexpected the folders of train, spelt as there"
        )
    mapping = np.array([numbers.get(name, -1) for name in other.classes], np.int64)
    return replace(other.files, targets=mapping[other.files.targets])


def check_number_of_classes(root: Path, classes: list[bytes]) -> None:
    if len(classes) > 1:
        return
    (only,) = classes
    below = os.path.join(os.fsencode(root), only)
    inside = os.path.isdir(below) and class_folders(below)
    hint = f"is `dataset.root={printable(str(root / os.fsdecode(only)), 200)}` meant?"
    raise ValueError(
        f"{printable(str(root), 200)}: one class folder alone, {shown(only, 60)}\n"
        "expected at least two to tell apart" + (f"; {hint}" if inside else "")
    )


def hold_out(
    targets: np.ndarray, *, num_val: int | float, num_test: int | float, seed: int
) -> dict[str, np.ndarray]:
    """Places of train, val and test, each ascending: stratified, by seed, the test set first."""
    total = len(targets)
    counts = {
        "num_val": in_images("num_val", num_val, total),
        "num_test": in_images("num_test", num_test, total),
    }
    if sum(counts.values()) >= total:
        asked = " and ".join(f"dataset.{name} {count:,}" for name, count in counts.items())
        raise ValueError(f"{asked} leave none of the {total:,} images to train on; choose fewer")
    rest, test = stratified_split(targets, counts["num_test"], seed=seed)
    train, val = stratified_split(targets[rest], counts["num_val"], seed=seed)
    return {"train": rest[train], "val": rest[val], "test": test}


def check_amount(name: str, value: int | float) -> None:
    """Raises ValueError unless value is a number of images or a part of all."""
    if isinstance(value, float):
        if not 0 <= value < 1:
            raise ValueError(
                f"dataset.{name} is {value!r}; as a part of the images it must be >= 0 and < 1"
            )
        return
    check_count(name, value, least=0)


def in_images(name: str, value: int | float, total: int) -> int:
    """100 are a hundred, 0.1 a tenth of all, to the nearest whole number."""
    check_amount(name, value)
    return value if isinstance(value, int) else round(value * total)
