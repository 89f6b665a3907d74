"""A folder of images, by class: train/CLASS/*.jpg and val/CLASS/*.jpg, or one tree and a split."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from dltrain.data.arrays import check_facts, check_seed
from dltrain.data.checked_images import ACTIONS, check_images
from dltrain.data.download import Progress
from dltrain.data.files import printable
from dltrain.data.folder_scan import Files, Scan, Seen, joined, scan_classes, some
from dltrain.data.folder_splits import (
    check_amount,
    check_classes,
    check_number_of_classes,
    class_names,
    find_splits,
    folder_of,
    hold_out,
    is_unlabelled,
)
from dltrain.data.listing import Listing
from dltrain.data.pictures import Pictures, Split, check_pictures
from dltrain.data.shelf import FileShelf

_SPLITS = ("train", "val", "test")
_NONE = np.zeros(0, np.int64)


class Tree(NamedTuple):
    """What lies below a root: its classes in order, the files of each split that has a folder."""

    classes: list[bytes]
    splits: dict[str, Files]
    notes: list[str]


class ImageFolder:
    """Images in folders named by their class; a class lies as deep as it likes.

    With root/train, the splits are the folders root/train, root/val (or valid, validation) and
    root/test; num_val images of train are held out where there is no val. Otherwise root is one
    tree of classes, of which num_val and num_test images are held out, stratified, by split_seed.
    Both are a number of images, or a part of all, such as 0.1.

    Images are cropped to size x size; for evaluation from the middle, after the shorter side was
    brought to size / crop_fraction. All files are checked before the first step: with
    on_bad_image=error a bad one ends the run, with skip it is left out. `notes` then says what a
    user may want to know, one line each. decode: see `Pictures`.
    """

    def __init__(
        self,
        *,
        root: str,
        num_classes: int | Literal["auto"],
        size: int,
        image_shape: Sequence[int],
        crop_fraction: float,
        mean: Sequence[float],
        std: Sequence[float],
        num_val: int | float,
        num_test: int | float,
        split_seed: int,
        on_bad_image: str,
        decode: str,
    ) -> None:
        known = num_classes if num_classes != "auto" else 1
        facts = check_facts(known, image_shape, mean, std)
        check_pictures(size, image_shape, crop_fraction, decode)
        if on_bad_image not in ACTIONS:
            raise ValueError(
                f"dataset.on_bad_image is {on_bad_image!r}; it must be one of {', '.join(ACTIONS)}"
            )
        check_seed(split_seed)
        check_amount("num_val", num_val)
        check_amount("num_test", num_test)
        self.root, self.size, self.crop_fraction = root, size, float(crop_fraction)
        _, self.image_shape, self.mean, self.std = facts
        self.num_val, self.num_test, self.split_seed = num_val, num_test, split_seed
        self.on_bad_image, self.decode = on_bad_image, decode
        self.notes: list[str] = []
        self._num_classes: int | None = None if num_classes == "auto" else num_classes

    @property
    def num_classes(self) -> int:
        """As given, or that of the folder. Raises ValueError where there is none."""
        if self._num_classes is None:
            self._num_classes = self.read_facts(root=self.root)["num_classes"]
        return self._num_classes

    @property
    def classes(self) -> tuple[str, ...]:
        return self._in_words(folder_of(self.root), class_names(folder_of(self.root)))

    @classmethod
    def read_facts(cls, *, root: str) -> dict[str, int]:
        """What only the data can tell, from a look at the folder: no image is opened."""
        path = folder_of(root)
        names = class_names(path)
        if not names:
            scan_classes(os.fsencode(path))  # which says what is wrong
        check_number_of_classes(path, names)
        return {"num_classes": len(names)}

    def load(self, progress: Progress | None = None) -> dict[str, Split]:
        """`train`, `val` and `test`. Raises ValueError where files are not what they should be."""
        return {split: self._as_split(found) for split, found in self.find(progress).items()}

    def find(self, progress: Progress | None = None) -> dict[str, Listing]:
        """The same as names, labels and sizes."""
        root = folder_of(self.root)
        tree = self._scan(root)
        check_number_of_classes(root, tree.classes)
        if self.num_classes != len(tree.classes):
            raise ValueError(
                f"{printable(str(root), 200)}: {len(tree.classes):,} class folders, but "
                f"dataset.num_classes is {self.num_classes:,}; choose dataset.num_classes=auto, or "
                f"{len(tree.classes)}"
            )
        files = joined(list(tree.splits.values()))
        kinds, good, notes = check_images(
            root, files, on_bad_image=self.on_bad_image, progress=progress
        )
        self.notes = notes + tree.notes
        words = self._in_words(root, tree.classes)
        everything = Listing(root, files.names, files.targets, kinds, words)
        places = self._places(tree, good)
        self._check_training_set(root, tree.classes, files.targets[places["train"]])
        found = {split: everything.take(places[split]) for split in _SPLITS}
        self.notes += too_small(found["train"].sizes, self.size)
        return found

    def _as_split(self, listing: Listing) -> Split:
        """The one place where what was found becomes what is trained on."""
        pictures = Pictures(
            FileShelf(listing.root, listing.names),
            listing.sizes,
            size=self.size,
            crop_fraction=self.crop_fraction,
            exact=self.decode == "exact",
        )
        return Split(pictures, listing.targets)

    def _scan(self, root: Path) -> Tree:
        """What is there, and nothing opened yet."""
        place = os.fsencode(root)
        folders = find_splits(root)
        if not folders:
            tree = scan_classes(place)
            return Tree(tree.classes, {"all": tree.files}, left_out([tree]))
        notes = []
        if "test" in folders and is_unlabelled(root, folders["test"]):
            notes = [f"{os.fsdecode(folders.pop('test'))} has no class folders and is not used"]
        seen: Seen = {}
        scans = {
            split: scan_classes(place, within, empty_is_error=split == "train", seen=seen)
            for split, within in folders.items()
        }
        train = scans["train"]
        splits = {
            split: check_classes(root, train, scan, split) if scan is not train else scan.files
            for split, scan in scans.items()
        }
        return Tree(train.classes, splits, notes + left_out(list(scans.values())))

    def _in_words(self, root: Path, classes: list[bytes]) -> tuple[str, ...]:
        """As people read them: what is no UTF-8 is written in hexadecimal."""
        return tuple(name.decode(errors="backslashreplace") for name in classes)

    def _places(self, tree: Tree, good: np.ndarray) -> dict[str, np.ndarray]:
        """Of the good images of each split, among those of all splits one after another."""
        begin, places = 0, {"val": _NONE, "test": _NONE}
        for split, files in tree.splits.items():
            places[split] = begin + np.flatnonzero(good[begin : begin + len(files)])
            begin += len(files)
        if "val" in tree.splits:
            return places
        whole = places.pop("all", places.get("train", _NONE))
        targets = np.concatenate([files.targets for files in tree.splits.values()])[whole]
        num_test = self.num_test if "all" in tree.splits else 0
        parts = hold_out(targets, num_val=self.num_val, num_test=num_test, seed=self.split_seed)
        held_out = {split: whole[index] for split, index in parts.items() if len(index)}
        return places | held_out

    def _check_training_set(self, root: Path, classes: list[bytes], targets: np.ndarray) -> None:
        lacking = np.flatnonzero(np.bincount(targets, minlength=len(classes)) == 0).tolist()
        if lacking:
            raise ValueError(
                f"{printable(str(root), 200)}: no image to train on is left of "
                f"{some([classes[each] for each in lacking])}\n"
                "expected one at least of each class: mend the bad ones, or hold out fewer"
            )


def too_small(sizes: np.ndarray, size: int) -> list[str]:
    """A hint where most images [N, 2] would be enlarged twice or more: that costs time, and shows
    the network nothing new."""
    middle = int(np.median(sizes.min(1))) if len(sizes) else size
    if 2 * middle > size:
        return []
    return [
        f"most images are far smaller than dataset.size={size} and are enlarged: half of them have "
        f"a shorter side of at most {middle} pixels; dataset.size={middle} is faster"
    ]


def left_out(scans: list[Scan]) -> list[str]:
    count = sum(scan.num_left_out for scan in scans)
    return [f"{count:,} files that are no images left out"] * bool(count)
