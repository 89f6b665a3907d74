"""The digits that ship inside scikit-learn: 1,797 handwritten digits, 8x8, 17 shades of gray."""

import gzip
import importlib.util
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dltrain.data.arrays import Arrays, check_arrays, check_facts, stratified_split, take
from dltrain.data.download import Progress
from dltrain.data.files import open_file, printable, refuse

_NUM_SAMPLES = 1797
_NUM_VAL, _NUM_TEST = 180, 360  # 10 % and 20 %; 1,257 are left to train on
# 16, the lightest, becomes 240: multiples of 15 are exact in uint8, and v * 15 / 255 is v / 17.
_SHADE = 15
_MAX_TEXT_BYTES = 1 << 20


class Digits:
    """1,257 digits to train on, 180 to validate, 360 to test, stratified, by split_seed.

    Optical Recognition of Handwritten Digits (Alpaydin, Kaynak 1998), its published test part, as
    scikit-learn has it. The values 0..16 are stored as 0, 15, ..., 240.
    """

    classes = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")

    def __init__(
        self,
        *,
        num_classes: int,
        image_shape: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        split_seed: int,
    ) -> None:
        self.facts = check_facts(num_classes, image_shape, mean, std)
        self.num_classes, self.image_shape, self.mean, self.std = self.facts
        self.split_seed = split_seed

    def load(self, progress: Progress | None = None) -> dict[str, Arrays]:
        """`train`, `val` and `test`. Raises FileNotFoundError without scikit-learn."""
        path = _find()
        everything = check_arrays(_read(path), self.facts, path)
        rest, test = stratified_split(everything.targets, _NUM_TEST, seed=self.split_seed)
        train, val = stratified_split(everything.targets[rest], _NUM_VAL, seed=self.split_seed)
        parts = {"train": rest[train], "val": rest[val], "test": test}
        return {split: take(everything, index) for split, index in parts.items()}


def _find() -> Path:
    """Without importing scikit-learn, which takes longer than training on its digits."""
    package = importlib.util.find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or []:
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.exists():
            return path
    raise FileNotFoundError(
        "dataset=digits reads the digits that ship inside scikit-learn, which is not installed "
        "here; `pip install scikit-learn`, or choose another dataset"
    )


def _read(path: Path) -> Arrays:
    try:
        with open_file(path) as packed, gzip.GzipFile(fileobj=packed) as file:
            text = file.read(_MAX_TEXT_BYTES)
        lines = text.decode("ascii").split()
        if len(lines) != _NUM_SAMPLES:
            raise ValueError(f"it has {len(lines):,} lines, not {_NUM_SAMPLES:,}")
        table = np.loadtxt(lines, delimiter=",", dtype=np.int64, ndmin=2, comments=None)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        refuse(path, f"it cannot be read ({printable(str(error))})", "the digits of scikit-learn")
    if table.shape != (_NUM_SAMPLES, 65) or table[:, :64].min() < 0 or table[:, :64].max() > 16:
        found = f"it holds a table of shape {list(table.shape)} from {table.min()} to {table.max()}"
        refuse(path, found, f"[{_NUM_SAMPLES}, 65] with 64 values from 0 to 16 and a label")
    images = (table[:, :64] * _SHADE).astype(np.uint8).reshape(-1, 1, 8, 8)
    return Arrays(images, table[:, 64])
