"""Sets in MDS shards: the index of a split, and the bytes of any of its samples.

MDS is the format of mosaicml-streaming. A shard is: uint32 number of samples n; uint32 [n + 1]
offsets; the columns as JSON; the samples. A sample is: uint32 sizes of the columns whose size
varies; then the values, in the order of the columns' names.
"""

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from dltrain.data.files import printable

INDEX, MAX_INDEX_BYTES = "index.json", 1 << 28  # 600 bytes a shard: 400,000 of them
_MAX_SHARD_BYTES = (1 << 32) - 1  # its offsets are uint32
_MAX_SAMPLES = 1 << 33
_MAX_COLUMNS = 100
# A name in the folder itself: nothing above it, nothing hidden, nothing of ours
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_DIGESTS = ("sha256", "sha512", "sha1", "md5")  # which of those given is compared, in this order


class Column(NamedTuple):
    """encoding: as MDS names it; size in bytes, None where each sample has its own."""

    name: str
    encoding: str
    size: int | None


class Shard(NamedTuple):
    """A file. checksum: `sha256:...`, or nothing where the index has no digest that we know."""

    name: str
    num_samples: int
    num_bytes: int
    checksum: str


class Index(NamedTuple):
    """What index.json says of a split."""

    columns: tuple[Column, ...]
    shards: tuple[Shard, ...]

    def column(self, name: str, key: str) -> int:
        """The place of a column. Raises ValueError, which names `key` and what there is."""
        names = [column.name for column in self.columns]
        if name not in names:
            shown = ", ".join(printable(each) for each in names)
            raise ValueError(f"{key} is {name!r}; the columns of these shards are {shown}")
        return names.index(name)


def parse_index(data: bytes, source: str) -> Index:
    """The index of a split, checked: nothing in it is trusted. `source` names it in ValueErrors."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = printable(str(error), 200)
        raise ValueError(f"{source}: it is no JSON ({reason}); expected an MDS index") from error
    listed = content.get("shards") if isinstance(content, dict) else None
    if not isinstance(listed, list) or content.get("version") != 2:
        _refuse(source, 'it has no "version": 2 and no list of shards')
    if not listed:
        _refuse(source, "it lists no shard")
    shards = tuple(_parse_shard(each, f"{source}, shard {i}") for i, each in enumerate(listed))
    columns = _parse_columns(listed[0], source)
    for number, each in enumerate(listed):
        if _parse_columns(each, source) != columns:
            _refuse(source, f"shard {number} has other columns than shard 0")
    if len({shard.name for shard in shards}) < len(shards):
        _refuse(source, "two of its shards have the same name")
    if sum(shard.num_samples for shard in shards) > _MAX_SAMPLES:
        _refuse(source, f"it has more than {_MAX_SAMPLES:,} samples")
    return Index(columns, shards)


def _parse_shard(entry: Any, source: str) -> Shard:
    raw = entry.get("raw_data") if isinstance(entry, dict) else None
    if not isinstance(raw, dict) or entry.get("format") != "mds":
        _refuse(source, 'it has no "format": "mds"')
    if entry.get("compression") or entry.get("zip_data"):
        _refuse(source, "it is compressed, which images do not gain from; write it without")
    name, num_bytes, num_samples = raw.get("basename"), raw.get("bytes"), entry.get("samples")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.endswith((".part", ".lock")):
        _refuse(source, f"its file's name is {printable(repr(name))}")
    if type(num_bytes) is not int or not 8 < num_bytes <= _MAX_SHARD_BYTES:
        _refuse(source, f"it has {printable(repr(num_bytes))} bytes")
    if type(num_samples) is not int or not 0 < num_samples <= num_bytes // 4 - 2:
        _refuse(source, f"it has {printable(repr(num_samples))} samples in {num_bytes:,} bytes")
    return Shard(name, num_samples, num_bytes, _checksum(raw.get("hashes")))


def _checksum(digests: Any) -> str:
    given = digests if isinstance(digests, dict) else {}
    known = (each for each in _DIGESTS if isinstance(given.get(each), str))
    best = next(known, None)
    return f"{best}:{given[best]}" if best else ""


def _parse_columns(entry: dict[str, Any], source: str) -> tuple[Column, ...]:
    given = [entry.get(f"column_{what}") for what in ("names", "encodings", "sizes")]
    lists = [each for each in given if isinstance(each, list) and 0 < len(each) <= _MAX_COLUMNS]
    if len(lists) < 3 or len({len(each) for each in lists}) > 1:
        _refuse(source, "its columns have no names, encodings and sizes")
    columns = tuple(map(Column, *lists))
    for name, encoding, size in columns:
        good_size = size is None or (type(size) is int and 0 < size <= _MAX_SHARD_BYTES)
        if not (isinstance(name, str) and isinstance(encoding, str) and good_size):
            _refuse(source, "its columns have no names, encodings and sizes")
    return columns


def _refuse(source: str, found: str) -> NoReturn:
    raise ValueError(
        f"{source}: {found}; expected the index of MDS shards, as mosaicml-streaming writes it"
    )


class Shards:
    """The samples of a split, by number, from 0 to len - 1.

    open_shard: gives a shard's path, once it is there. A shard that has been taken away again
    between this and its being opened is asked for once more.
    """

    def __init__(self, index: Index, open_shard: Callable[[Shard], Path]) -> None:
        self.index = index
        self._open_shard = open_shard
        #: samples of each shard, int64 [S]
        self.sizes = np.array([shard.num_samples for shard in index.shards], dtype=np.int64)
        self._ends = self.sizes.cumsum()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def place(self, sample: int) -> tuple[int, int]:
        """The shard that a sample is in, and its number in there."""
        shard = int(np.searchsorted(self._ends, sample, side="right"))
        return shard, sample - int(self._ends[shard] - self.sizes[shard])

    def read(self, sample: int, column: int) -> bytes:
        """The bytes of one column. Raises ValueError where the shard is not what it should be."""
        number, row = self.place(sample)
        shard = self.index.shards[number]
        data = self._read_row(shard, row)
        begin, size = self._find(data, column, shard)
        return data[begin : begin + size]

    def _read_row(self, shard: Shard, row: int) -> bytes:
        for _ in range(9):  # in a cache that is too small for what is read at a time
            path = self._open_shard(shard)
            with suppress(FileNotFoundError):
                return _read_row(path, shard, row)
        return _read_row(self._open_shard(shard), shard, row)

    def _find(self, data: bytes, wanted: int, shard: Shard) -> tuple[int, int]:
        """Where a column begins in a sample, and its size in bytes."""
        varying = sum(column.size is None for column in self.index.columns)
        sizes = iter(np.frombuffer(data, "<u4", min(varying, len(data) // 4)).tolist())
        begin = 4 * varying
        for number, column in enumerate(self.index.columns):
            size = next(sizes, -1) if column.size is None else column.size
            if size < 0 or begin + size > len(data):
                raise ValueError(f"{shard.name} is damaged: a sample ends before its columns do")
            if number == wanted:
                return begin, size
            begin += size
        raise AssertionError(wanted)


def _read_row(path: Path, shard: Shard, row: int) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        begin, end = np.frombuffer(_exactly(file, 8, 4 + 4 * row, shard), "<u4").tolist()
        if not 8 + 4 * shard.num_samples <= begin < end <= shard.num_bytes:
            raise ValueError(
                f"{shard.name} is damaged: sample {row} lies from byte {begin:,} to {end:,}"
            )
        return _exactly(file, end - begin, begin, shard)
    finally:
        os.close(file)


def _exactly(file: int, num_bytes: int, offset: int, shard: Shard) -> bytes:
    data = os.pread(file, num_bytes, offset)
    if len(data) < num_bytes:
        raise ValueError(f"{shard.name} is damaged: it ends before byte {offset + num_bytes:,}")
    return data
