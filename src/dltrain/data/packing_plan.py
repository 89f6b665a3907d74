"""Where every image of a dataset will lie in a packed set, before the first one is read."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dltrain.data.packed_layout import SPLITS
from dltrain.data.pictures import Pictures


class Facts(NamedTuple):
    """What a packed set says of the dataset that it was made of."""

    num_classes: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Shard(NamedTuple):
    """A file of images begin to end, numbered over all splits."""

    name: str
    begin: int
    end: int
    num_bytes: int


class Part(NamedTuple):
    """A split. read_sizes and sizes: int32 [N, 2], of the images as they are and as they will be
    stored; begin: its first image."""

    shelf: Any
    read_sizes: np.ndarray
    sizes: np.ndarray
    targets: np.ndarray
    begin: int
    shards: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """settings: what must be the same when packing goes on, by name.

    shard, offset, num_bytes: int64 [N], of all images. same_as: splits of the same images as an
    earlier one, which are stored once.
    """

    store: str
    facts: Facts
    settings: dict[str, Any]
    parts: dict[str, Part]
    same_as: dict[str, str]
    shards: tuple[Shard, ...]
    shard: np.ndarray
    offset: np.ndarray
    num_bytes: np.ndarray

    def image(self, number: int) -> tuple[Part, int]:
        """The split of an image, and its place there."""
        part = next(each for each in reversed(self.parts.values()) if number >= each.begin)
        return part, number - part.begin

    def describe(self, number: int) -> str:
        part, place = self.image(number)
        return str(part.shelf.describe(place))


def make_plan(
    splits: Mapping[str, tuple[Pictures, np.ndarray]],
    facts: Facts,
    *,
    store: str,
    side: int,
    shard_bytes: int,
) -> Plan:
    """store: files, as they are; or uint8, shorter sides brought to `side` if they are longer."""
    settings = {
        "store": store,
        "shard_bytes": shard_bytes,
        "facts": _digest([repr(facts).encode()]),
    }
    settings |= {"side": side} if store == "uint8" else {}
    parts: dict[str, Part] = {}
    same_as: dict[str, str] = {}
    shards: list[Shard] = []
    lengths = []
    total = 0
    for split in SPLITS:
        pictures, targets = splits[split]
        versions = _versions(pictures.shelf, len(targets))
        settings[split] = _identity(pictures, targets, versions)
        twin = [each for each in parts if len(targets) and settings[each] == settings[split]]
        if twin:
            same_as[split] = twin[0]
            continue
        sizes = stored_sizes(pictures.sizes, side) if store == "uint8" else pictures.sizes
        length = 3 * sizes.astype(np.int64).prod(axis=1) if store == "uint8" else versions[:, 0]
        made = _shards(split, length, total, shard_bytes)
        numbers = tuple(range(len(shards), len(shards) + len(made)))
        parts[split] = Part(pictures.shelf, pictures.sizes, sizes, targets, total, numbers)
        shards += made
        lengths.append(length)
        total += len(targets)
    num_bytes = np.concatenate(lengths)
    shard = np.repeat(np.arange(len(shards)), [each.end - each.begin for each in shards])
    ends = np.cumsum(num_bytes)
    begins = np.array([ends[each.begin] - num_bytes[each.begin] for each in shards], np.int64)
    offset = ends - num_bytes - begins[shard]
    return Plan(store, facts, settings, parts, same_as, tuple(shards), shard, offset, num_bytes)


def stored_sizes(sizes: np.ndarray, side: int) -> np.ndarray:
    """int32 [N, 2]: the shorter side is `side` where it was longer; nothing is enlarged."""
    wide = sizes.astype(np.int64)
    least = wide.min(axis=1, keepdims=True)
    return np.where(least > side, side * wide // np.maximum(1, least), wide).astype(np.int32)


def _shards(split: str, num_bytes: np.ndarray, first: int, limit: int) -> list[Shard]:
    """As many images as fit into `limit` bytes, and one at least."""
    ends, begin = np.cumsum(num_bytes), 0
    shards: list[Shard] = []
    while begin < len(num_bytes):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + limit, side="right")))
        name = f"{split}-{len(shards):05d}.bin"
        shards.append(Shard(name, first + begin, first + end, int(ends[end - 1]) - before))
        begin = end
    return shards


def _versions(shelf: Any, num_images: int) -> np.ndarray:
    """int64 [N, 2]: bytes and time of change of each, where the shelf knows them."""
    if not hasattr(shelf, "version"):
        return np.zeros((num_images, 2), np.int64)
    flat = (each for index in range(num_images) for each in shelf.version(index))
    return np.fromiter(flat, np.int64, 2 * num_images).reshape(-1, 2)


def name_of(shelf: Any, index: int) -> bytes:
    """The name below the dataset's root, where the shelf knows it."""
    return os.fsencode(shelf.name(index) if hasattr(shelf, "name") else shelf.describe(index))


def _identity(pictures: Pictures, targets: np.ndarray, versions: np.ndarray) -> str:
    """Of what a split holds: names, labels, sizes, and that no file has been changed."""
    names = (name_of(pictures.shelf, index) + b"\0" for index in range(len(targets)))
    columns = (pictures.sizes.astype("<i4"), targets.astype("<i8"), versions.astype("<i8"))
    return f"{len(targets)} images {_digest([*(each.tobytes() for each in columns), *names])}"


def _digest(parts: Iterable[bytes] | Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
