"""What published datasets share: facts, where their files lie, and a validation split."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from dltrain.data.arrays import Arrays, check_arrays, check_facts, hold_out
from dltrain.data.download import Progress, Remote
from dltrain.data.files import check_root


class PublishedDataset:
    """A dataset that brings a training and a test set as files under `root`.

    num_val samples of the training set become the validation set, stratified, by split_seed; with
    0 it is empty. `download` fetches what is missing. A subclass says how its files are read.
    """

    title: ClassVar[str]
    classes: tuple[str, ...]
    files: ClassVar[tuple[Remote, ...]]

    def __init__(
        self,
        *,
        root: str,
        download: bool,
        num_classes: int,
        image_shape: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        num_val: int,
        split_seed: int,
    ) -> None:
        self.root = Path(os.path.expanduser(root))
        self.download = download
        self.facts = check_facts(num_classes, image_shape, mean, std)
        self.num_classes, self.image_shape, self.mean, self.std = self.facts
        self.num_val = num_val
        self.split_seed = split_seed

    def load(self, progress: Progress | None = None) -> dict[str, Arrays]:
        """`train`, `val` and `test`.

        Raises FileNotFoundError where files are missing, ValueError where they are not what they
        should be.
        """
        check_root(self.root)
        train, test = self._read(progress)
        check_arrays(train, self.facts, f"the training set of {self.title} in {self.root}")
        check_arrays(test, self.facts, f"the test set of {self.title} in {self.root}")
        train, val = hold_out(train, self.num_val, seed=self.split_seed)
        return {"train": train, "val": val, "test": test}

    def _read(self, progress: Progress | None) -> tuple[Arrays, Arrays]:
        """The training and the test set as published."""
        raise NotImplementedError
