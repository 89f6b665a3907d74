"""ImageNet (ILSVRC2012): 1,281,167 photographs of 1,000 kinds of things, as it is published."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from dltrain.data.download import Progress
from dltrain.data.files import printable
from dltrain.data.folder_scan import (
    Files,
    Seen,
    class_folders,
    scan_classes,
    scan_flat,
    shown,
    some,
)
from dltrain.data.folder_splits import check_classes, folder_of
from dltrain.data.image_folder import ImageFolder, Tree, left_out
from dltrain.data.listing import Listing
from dltrain.data.synsets import class_words, validation_classes

_BELOW = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")  # the second is Kaggle's archive
_HOW = (
    "ImageNet cannot be downloaded without an account: register at image-net.org (or take\n"
    "Kaggle's imagenet-object-localization-challenge), and unpack ILSVRC2012_img_train.tar, the\n"
    "archives in it to train/nXXXXXXXX/, and ILSVRC2012_img_val.tar to val/"
)


class ImageNet(ImageFolder):
    """Russakovsky et al. 2015: root/train/WNID/*.JPEG, and root/val/WNID/*.JPEG or root/val/*.JPEG.

    Where val is flat, as it is published, its classes come from the development kit
    (root/ILSVRC2012_devkit_t12) or from Kaggle's LOC_val_solution.csv. The labels of ImageNet's
    test set are not published: published figures are of val, and so `test` is val. With num_val=0
    `val` is val, too; otherwise so many images of train, stratified, by split_seed, so that what
    chooses the best weights is not what they are tested on.
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
        split_seed: int,
        on_bad_image: str,
        decode: str,
    ) -> None:
        super().__init__(
            root=root,
            num_classes=num_classes,
            size=size,
            image_shape=image_shape,
            crop_fraction=crop_fraction,
            mean=mean,
            std=std,
            num_val=num_val,
            num_test=0,
            split_seed=split_seed,
            on_bad_image=on_bad_image,
            decode=decode,
        )

    @property
    def classes(self) -> tuple[str, ...]:
        root = _root_of(self.root)
        within = _images_below(root)
        return self._in_words(root, class_folders(os.fsencode(root / within / "train")))

    @classmethod
    def read_facts(cls, *, root: str) -> dict[str, int]:
        path = _root_of(root)
        folder = os.fsencode(path / _images_below(path) / "train")
        return {"num_classes": len(class_folders(folder))}

    def find(self, progress: Progress | None = None) -> dict[str, Listing]:
        _root_of(self.root)
        return super().find(progress)

    def _scan(self, root: Path) -> Tree:
        place, within = os.fsencode(root), _images_below(root)
        seen: Seen = {}
        train = scan_classes(place, os.fsencode(os.path.join(within, "train")), seen=seen)
        folder = os.fsencode(os.path.join(within, "val"))
        if class_folders(os.path.join(place, folder)):
            val = scan_classes(place, folder, empty_is_error=False, seen=seen)
            return Tree(
                train.classes,
                {"train": train.files, "test": check_classes(root, train, val, "val")},
                left_out([train, val]),
            )
        files = _labelled(root, train.classes, scan_flat(place, folder))
        return Tree(train.classes, {"train": train.files, "test": files}, left_out([train]))

    def _places(self, tree: Tree, good: np.ndarray) -> dict[str, np.ndarray]:
        places = super()._places(tree, good)
        return places if self.num_val else places | {"val": places["test"]}

    def _in_words(self, root: Path, classes: list[bytes]) -> tuple[str, ...]:
        words = class_words(root)
        return tuple(words.get(name, name) for name in super()._in_words(root, classes))


def _root_of(root: str) -> Path:
    """Raises ValueError or FileNotFoundError, with how to get ImageNet, where it is not there."""
    path = Path(os.path.expanduser(root))
    if not path.exists():
        raise FileNotFoundError(
            f"dataset.root is {printable(str(path.absolute()), 200)}: there is nothing; expected "
            f"train/ and val/\n{_HOW}"
        )
    return folder_of(root)


def _images_below(root: Path) -> str:
    """Where train and val are, below root."""
    for within in _BELOW:
        if all((root / within / split).is_dir() for split in ("train", "val")):
            return within
    lacking = [each for each in ("train", "val") if not (root / each).is_dir()]
    place = printable(str(root.absolute()), 200)
    raise FileNotFoundError(f"{place}: no folder {' and no folder '.join(lacking)}\n{_HOW}")


def _labelled(root: Path, classes: list[bytes], files: Files) -> Files:
    """The validation images that lie beside each other, with their published classes."""
    place = printable(str(root.absolute()), 200)
    if not len(files):
        raise ValueError(f"{place}: no image in val; expected val/ILSVRC2012_val_00000001.JPEG ...")
    by_name = validation_classes(root)
    if by_name is None:
        raise ValueError(
            f"{place}: the images in val are in no class folders\n"
            "expected val/nXXXXXXXX/*.JPEG, or beside train what says their classes:\n"
            "ILSVRC2012_devkit_t12/ (of image-net.org) or LOC_val_solution.csv (of Kaggle)"
        )
    numbers = {name.decode(errors="replace"): number for number, name in enumerate(classes)}
    stems = [os.path.splitext(os.path.basename(name))[0] for name in files.names]
    targets = [numbers.get(by_name.get(stem, ""), -1) for stem in stems]
    lacking = [os.fsencode(stem) for stem, number in zip(stems, targets, strict=True) if number < 0]
    if lacking:
        raise ValueError(
            f"{shown(os.fsencode(root))}: images in val without a class of train: {some(lacking)}\n"
            "expected those of ILSVRC2012 with all of their classes in train"
        )
    order = np.argsort(np.array(targets), kind="stable")
    return Files(
        files.names.take(order),
        np.array(targets, np.int64)[order],
        files.num_bytes[order],
        files.mtime_ns[order],
    )
