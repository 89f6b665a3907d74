"""The files of a packed set, and whether they are what its manifest says.

    MANIFEST.json      what it holds, and size and SHA-256 of every file; written last
    train-00000.bin    images one after another, of `store`: files, as they were; or uint8 [H, W, 3]
    train.index        a ROW for each image, in the dataset's order
    train.names        int64 [N], where each name ends, then the names

No number in them is relied on before it was compared with the sizes of the files.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dltrain import plain
from dltrain.data.arrays import check_facts
from dltrain.data.download import Progress
from dltrain.data.files import open_file, printable
from dltrain.data.listing import MAX_PIXELS

FORMAT, VERSION = "dltrain packed images", 1
MANIFEST = "MANIFEST.json"
PROGRESS = "PROGRESS.json"  # of a set that is not finished: what of it is
SPLITS = ("train", "val", "test")
STORES = ("files", "uint8")
ROW = np.dtype(
    [
        ("offset", "<i8"),
        ("num_bytes", "<i8"),
        ("shard", "<i4"),  # place in the split's list of shards
        ("height", "<i4"),
        ("width", "<i4"),
        ("target", "<i4"),
    ]
)
MAX_MANIFEST_BYTES = 1 << 26  # the names of a million classes
_FILE_NAME = re.compile(r"(train|val|test)(-[0-9]{5,9}\.bin|\.index|\.names)")
_PIECE = 1 << 22


class SplitFiles(NamedTuple):
    """The files of one split, by name."""

    num_samples: int
    rows: str
    names: str
    shards: tuple[str, ...]


class Manifest(NamedTuple):
    """files: name -> bytes and SHA-256. mean and std are those of the dataset that was packed."""

    store: str
    classes: tuple[str, ...]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    splits: dict[str, SplitFiles]
    num_left_out: int
    files: dict[str, tuple[int, str]]


def read_manifest(root: Path) -> Manifest:
    """What a set holds, every file there and as large as it must be.

    Raises ValueError where it is not, FileNotFoundError where there is no manifest.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(_missing(root))
    try:
        manifest = parse_manifest(plain.read_json(path, MAX_MANIFEST_BYTES))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; expected a file that you may read") from error
    except plain.PLAIN_ERRORS as error:
        raise ValueError(f"{path}: {printable(str(error), 200)}; {_AGAIN}") from error
    for name, (num_bytes, _) in manifest.files.items():
        _check_size(root / name, num_bytes)
    return manifest


def parse_manifest(data: Any) -> Manifest:
    """Raises ValueError, in words that follow a file's name."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f"it is no manifest of {FORMAT}")
    if data.get("version") != VERSION:
        raise ValueError(f"it has version {str(data.get('version'))[:20]}; this program reads 1")
    try:
        files = {str(k): (_count(v["bytes"]), str(v["sha256"])) for k, v in data["files"].items()}
        splits = {name: _split(data["splits"][name]) for name in SPLITS}
        facts = check_facts(data["num_classes"], [3, 1, 1], data["mean"], data["std"])
        num_left_out = _count(data["num_left_out"])
        classes, store = tuple(map(str, data["classes"])), data["store"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a part of it is missing or of the wrong type ({error})") from error
    named = {name for split in splits.values() for name in (*split[1:3], *split.shards)}
    if alien := [name for name in files if not _FILE_NAME.fullmatch(name)]:
        raise ValueError(f"it names a file {alien[0][:80]!r}, which no packed set has")
    if named != files.keys() or store not in STORES:
        raise ValueError("its splits, its store and its list of files do not agree")
    return Manifest(
        store, classes, facts.num_classes, facts.mean, facts.std, splits, num_left_out, files
    )


def read_rows(root: Path, manifest: Manifest, split: str) -> np.ndarray:
    """ROW [N], every one of them within its shard. Raises ValueError."""
    files = manifest.splits[split]
    path = root / files.rows
    sizes = np.array([manifest.files[name][0] for name in files.shards], np.int64)
    if manifest.files[files.rows][0] != files.num_samples * ROW.itemsize:
        raise ValueError(f"{path}: it is not for {files.num_samples:,} samples; {_AGAIN}")
    with open_file(path) as file:
        rows = np.fromfile(file, ROW)
    if len(rows) != files.num_samples:
        raise ValueError(f"{path}: it has {len(rows):,} rows of {files.num_samples:,}; {_AGAIN}")
    columns = {str(name): rows[name].astype(np.int64) for name in ROW.names or ()}
    offset, length, shard = columns["offset"], columns["num_bytes"], columns["shard"]
    num_pixels = columns["height"] * columns["width"]
    good = (shard >= 0) & (shard < len(sizes)) & (offset >= 0) & (length > 0)
    good &= (columns["height"] > 0) & (columns["width"] > 0) & (num_pixels <= MAX_PIXELS)
    good &= (columns["target"] >= 0) & (columns["target"] < manifest.num_classes)
    if manifest.store == "uint8":
        good &= length == 3 * num_pixels
    if len(sizes):  # differences, for sums may overflow
        good &= offset <= sizes[np.clip(shard, 0, len(sizes) - 1)] - length
    if not good.all():
        raise ValueError(
            f"{path}: row {int(np.argmin(good)):,} does not describe an image within the files of "
            f"{split}; {_AGAIN}"
        )
    return rows


def read_ends(path: Path, num_samples: int) -> np.ndarray:
    """Where in a file of names each ends: int64 [N]. Raises ValueError."""
    with open_file(path) as file:
        ends = np.fromfile(file, "<i8", num_samples)
        file.seek(0, 2)
        num_bytes = file.tell() - ends.nbytes
    steps = np.diff(ends, prepend=0)
    if len(ends) != num_samples or (steps < 0).any() or (ends[-1:] != num_bytes).any():
        raise ValueError(f"{path}: it does not hold {num_samples:,} names; {_AGAIN}")
    return ends


def verify(root: Path, manifest: Manifest, progress: Progress | None = None) -> None:
    """Raises ValueError, which names the first file whose bytes are not those of the manifest."""
    total, done = sum(num_bytes for num_bytes, _ in manifest.files.values()), 0
    for name, (_, expected) in manifest.files.items():
        digest = hashlib.sha256()
        with open_file(root / name) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                done += len(piece)
                if progress is not None:
                    progress(f"{printable(str(root), 60)}, its digests", done, total)
        if digest.hexdigest() != expected:
            raise ValueError(
                f"{root / name}: its SHA-256 is not that of the manifest: it is damaged; {_AGAIN}"
            )


_AGAIN = "copy the set again, or remove it and prepare it again"


def _check_size(path: Path, num_bytes: int) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; {_AGAIN}") from error
    if found != num_bytes:
        raise ValueError(f"{path}: it has {found:,} bytes, of {num_bytes:,}; {_AGAIN}")


def _missing(root: Path) -> str:
    place = printable(str(root.absolute()), 200)
    if (root / PROGRESS).is_file():
        return (
            f"{place}: this packed set is not finished\n"
            "go on with the command that began it: dltrain prepare ..."
        )
    return (
        f"{place}: there is no {MANIFEST}; expected a packed set\n"
        "make one of a folder of images: dltrain prepare dataset=image_folder dataset.root=FOLDER "
        f"prepare.out={printable(str(root), 60)}"
    )


def _split(data: Mapping[str, Any]) -> SplitFiles:
    shards = tuple(map(str, data["shards"]))
    return SplitFiles(_count(data["num_samples"]), str(data["index"]), str(data["names"]), shards)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise TypeError(f"{str(value)[:40]} is no number of samples or bytes")
    return value
