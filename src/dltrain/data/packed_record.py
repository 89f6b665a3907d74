"""What is finished of a packed set that is being written, and how it is completed."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dltrain import plain
from dltrain.data.files import printable
from dltrain.data.packed_layout import (
    FORMAT,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    PROGRESS,
    ROW,
    SPLITS,
    VERSION,
    Manifest,
    parse_manifest,
    read_manifest,
)
from dltrain.data.packing_plan import Part, Plan, Shard, name_of
from dltrain.durable import replace_text, write_parts

_MAX_BYTES = 1 << 30  # of a record: a few for every image that was left out


@dataclass
class Record:
    """files: of finished shards, bytes and SHA-256. skipped: images left out of each, by number."""

    root: Path
    settings: dict[str, Any]
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    skipped: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def open(cls, root: Path, plan: Plan) -> "Record":
        """What is there already. Raises ValueError where it is of another dataset or setting."""
        path = root / PROGRESS
        if not path.exists():
            return cls(root, plan.settings)
        settings, files, skipped = _read(path)
        check_settings(root, settings, plan.settings)
        record = cls(root, plan.settings)
        for shard in plan.shards:
            num_bytes, digest = files.get(shard.name, (-1, ""))
            if num_bytes == shard.num_bytes and _has_size(root / shard.name, num_bytes):
                record.files[shard.name] = (num_bytes, digest)
                record.skipped[shard.name] = _within(skipped.get(shard.name, []), shard)
        return record

    def add(self, shard: Shard, digest: str, skipped: list[int]) -> None:
        """A shard that has its name and is on the disk."""
        self.files[shard.name] = (shard.num_bytes, digest)
        self.skipped[shard.name] = skipped
        self.save()

    def save(self) -> None:
        files = {name: {"bytes": size, "sha256": each} for name, (size, each) in self.files.items()}
        data = {"format": FORMAT, "version": VERSION, "settings": self.settings}
        data |= {"files": files, "skipped": self.skipped}
        replace_text(self.root / PROGRESS, json.dumps(data))


def check_settings(root: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raises ValueError, which names what differs."""
    what = {"shard_bytes": "prepare.shard_mib", "store": "prepare.store", "side": "prepare.side"}
    what |= {"facts": "its classes, dataset.mean or dataset.std"}
    differ = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    if not differ:
        return
    said = [what.get(name, f"the images of {printable(name, 20)}") for name in differ]
    raise ValueError(
        f"{printable(str(root), 200)} holds a packed set, or a part of one, of something else: "
        f"{', '.join(said)} differ{'s' * (len(said) == 1)}\n"
        "type the command that began it, or choose another prepare.out"
    )


def finish(plan: Plan, root: Path, record: Record) -> Manifest:
    """Writes the index and the names, and the manifest when all is on the disk."""
    skipped = {each for shard in record.skipped.values() for each in shard}
    files = dict(record.files)
    splits = {}
    for split, part in plan.parts.items():
        kept = np.array(
            [number - part.begin for number in _numbers(part) if number not in skipped], np.int64
        )
        _check_classes(root, split, part, kept)
        files |= _write_index(plan, root, split, part, kept)
        splits[split] = {
            "num_samples": len(kept),
            "index": f"{split}.index",
            "names": f"{split}.names",
            "shards": [plan.shards[number].name for number in part.shards],
        }
    splits |= {split: splits[twin] for split, twin in plan.same_as.items()}
    data = {
        "format": FORMAT,
        "version": VERSION,
        "store": plan.store,
        "num_classes": plan.facts.num_classes,
        "classes": list(plan.facts.classes),
        "mean": list(plan.facts.mean),
        "std": list(plan.facts.std),
        "splits": {split: splits[split] for split in SPLITS},
        "files": {name: {"bytes": size, "sha256": each} for name, (size, each) in files.items()},
        "num_left_out": len(skipped),
        "settings": plan.settings,
    }
    manifest = parse_manifest(data)
    replace_text(root / MANIFEST, json.dumps(data, indent=1) + "\n")
    (root / PROGRESS).unlink(missing_ok=True)
    return manifest


def finished(root: Path, plan: Plan) -> Manifest | None:
    """The manifest of a finished set. Raises ValueError where it is one of something else."""
    if not os.path.lexists(root / MANIFEST):
        return None
    manifest = read_manifest(root)
    data = plain.read_json(root / MANIFEST, MAX_MANIFEST_BYTES)
    settings = data.get("settings")
    check_settings(root, settings if isinstance(settings, dict) else {}, plan.settings)
    (root / PROGRESS).unlink(missing_ok=True)
    return manifest


def _numbers(part: Part) -> range:
    return range(part.begin, part.begin + len(part.targets))


def _write_index(
    plan: Plan, root: Path, split: str, part: Part, kept: np.ndarray
) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of the two files, by name."""
    rows = np.zeros(len(kept), ROW)
    numbers = kept + part.begin
    first = part.shards[0] if part.shards else 0
    rows["offset"], rows["num_bytes"] = plan.offset[numbers], plan.num_bytes[numbers]
    rows["shard"], rows["target"] = plan.shard[numbers] - first, part.targets[kept]
    rows["height"], rows["width"] = part.sizes[kept].T
    names = [name_of(part.shelf, place) for place in kept.tolist()]
    ends = np.cumsum(np.fromiter(map(len, names), "<i8", len(names)), dtype="<i8")
    return {
        f"{split}.index": write_parts(root / f"{split}.index", [rows.tobytes()]),
        f"{split}.names": write_parts(root / f"{split}.names", [ends.tobytes(), b"".join(names)]),
    }


def _check_classes(root: Path, split: str, part: Part, kept: np.ndarray) -> None:
    if split != "train":
        return
    lacking = np.setdiff1d(part.targets, part.targets[kept])
    if len(lacking):
        raise ValueError(
            f"{printable(str(root), 200)}: no image of class {int(lacking[0])} can be read; "
            "expected one at least of each class"
        )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, tuple[int, str]], dict[str, list[int]]]:
    try:
        data = plain.read_json(path, _MAX_BYTES)
        if data["format"] != FORMAT or data["version"] != VERSION:
            raise ValueError("it is of another version")
        files = {
            str(name): (int(each["bytes"]), str(each["sha256"]))
            for name, each in data["files"].items()
        }
        skipped = {str(name): list(map(int, each)) for name, each in data["skipped"].items()}
        return dict(data["settings"]), files, skipped
    except (*plain.PLAIN_ERRORS, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: it is no record of packing ({printable(str(error), 100)}); remove "
            f"{path.parent} and begin again"
        ) from error


def _has_size(path: Path, num_bytes: int) -> bool:
    try:
        return path.lstat().st_size == num_bytes
    except OSError:
        return False


def _within(numbers: list[int], shard: Shard) -> list[int]:
    return [number for number in numbers if shard.begin <= number < shard.end]
