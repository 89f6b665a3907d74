"""Sets beyond one disk: images in MDS shards, in a folder, on a server or in a bucket."""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from dltrain.data.arrays import check_count, check_facts, check_labels
from dltrain.data.decode import decode
from dltrain.data.files import open_file, printable
from dltrain.data.pictures import Pictures, Split, check_pictures
from dltrain.data.remotes import LocalCopy, Remote, scheme_of
from dltrain.data.shard_cache import ShardCache, default_folder
from dltrain.data.shard_table import (
    TABLE,
    check_images,
    check_shard,
    max_table_bytes,
    parse_table,
)
from dltrain.data.shards import INDEX, MAX_INDEX_BYTES, Index, Shards, parse_index

_GB = 1_000_000_000
_SPLITS = ("train", "val", "test")
_SPARE = 4  # shards beyond the window: two that are being fetched, and those of val and test


class MDS:
    """Images in shards as mosaicml-streaming writes them: root/train/index.json, root/val/, ...

    A folder is read in place, unless `cache` names a folder that is faster. What lies elsewhere is
    fetched into the cache when it is needed, shard by shard, and compared with its digest;
    cache_limit_gb of them stay. That needs download=true, as it writes outside of the run's folder.
    splits: which of train, val and test there are. image_column: the
    column that holds JPEG, PNG, WebP or BMP files. Labels and sizes come from samples.npy (see
    `dltrain.data.shard_table`). decode: see `Pictures`.

    shuffle_window: of how many shards samples are mixed at a time; 0 mixes all of them.
    """

    def __init__(
        self,
        *,
        root: str,
        download: bool,
        splits: Sequence[str],
        num_classes: int,
        size: int,
        image_shape: Sequence[int],
        crop_fraction: float,
        mean: Sequence[float],
        std: Sequence[float],
        decode: str,
        image_column: str,
        shuffle_window: int,
        cache: str | None,
        cache_limit_gb: float,
    ) -> None:
        self.facts = check_facts(num_classes, image_shape, mean, std)
        self.num_classes, self.image_shape, self.mean, self.std = self.facts
        check_pictures(size, self.image_shape, crop_fraction, decode)
        check_count("shuffle_window", shuffle_window, least=0)
        if not 0 < cache_limit_gb < float("inf"):
            raise ValueError(f"dataset.cache_limit_gb is {cache_limit_gb}; it must be > 0")
        if "train" not in splits or sorted(set(splits) & set(_SPLITS)) != sorted(splits):
            raise ValueError(
                f"dataset.splits is {list(splits)}; it must hold train, and may hold val and test, "
                "each once"
            )
        self.splits, self.size = tuple(splits), size
        self.crop_fraction, self.image_column = float(crop_fraction), image_column
        self.decode, self.shuffle_window = decode, shuffle_window
        self.cache_limit = int(cache_limit_gb * _GB)
        self.download = download
        self._is_local = not scheme_of(root)
        self.root = os.path.expanduser(root) if self._is_local else root
        self.cache = Path(cache).expanduser() if cache is not None else None
        if self.cache is None and not self._is_local:
            self.cache = default_folder()

    @property
    def classes(self) -> tuple[str, ...]:
        """Their numbers: shards do not name them."""
        return tuple(map(str, range(self.num_classes)))

    def load(self) -> dict[str, Split]:
        """The splits that there are. Raises ValueError where they are not what they should be."""
        if self._is_local and not Path(self.root).is_dir():
            raise ValueError(f"dataset.root is {self.root}; expected a folder or an address")
        if self.cache is not None and not self.download:
            raise ValueError(
                f"dataset.root is {printable(self.root, 200)}; add `dataset.download=true` to "
                f"fetch shards from there into {printable(str(self.cache), 200)}"
            )
        return {split: self._load(split) for split in self.splits}

    def _load(self, split: str) -> Split:
        source = f"{self.root}/{split}"
        data = self._small_file(split, INDEX, MAX_INDEX_BYTES)
        index = parse_index(data, f"{source}/{INDEX}")
        column = index.column(self.image_column, "dataset.image_column")
        check_images(index.columns[column])
        shelf = ShardShelf(
            self._shards(index, split, hashlib.sha256(data).hexdigest()[:16]),
            column=column,
            name=split,
            window=self.shuffle_window or len(index.shards),
        )
        most = max_table_bytes(len(shelf))
        table = parse_table(
            self._small_file(split, TABLE, most),
            f"{source}/{TABLE}",
            num_samples=len(shelf),
        )
        targets, sizes = table[:, 0].copy(), table[:, 1:].astype(np.int32)
        check_labels(targets, self.num_classes, f"{source}/{TABLE}")
        return Split(self._as_inputs(shelf, sizes), targets)

    def _as_inputs(self, shelf: "ShardShelf", sizes: np.ndarray) -> Pictures:
        return Pictures(
            shelf,
            sizes,
            size=self.size,
            crop_fraction=self.crop_fraction,
            exact=self.decode == "exact",
        )

    def _fetcher(self, split: str, limit: int) -> Callable[[str, Path], None]:
        """limit: bytes of the largest file that is to come."""
        if self._is_local:
            return LocalCopy(Path(self.root) / split).fetch
        return Remote(f"{self.root.rstrip('/')}/{split}", limit=limit).fetch

    def _shards(self, index: Index, split: str, identity: str) -> Shards:
        if self.cache is None:
            folder = Path(self.root) / split
            for shard in index.shards:
                check_shard(folder / shard.name, shard)
            return Shards(index, lambda shard: folder / shard.name)
        self._check_limit(index)
        fetch = self._fetcher(split, max(shard.num_bytes for shard in index.shards))
        cache = ShardCache(fetch, self.cache, limit=self.cache_limit, identity=identity)
        return Shards(index, cache.open_shard)

    def _check_limit(self, index: Index) -> None:
        largest = max(shard.num_bytes for shard in index.shards)
        window = min(self.shuffle_window or len(index.shards), len(index.shards))
        needed = (window + _SPARE) * largest
        if self.cache_limit < needed:
            raise ValueError(
                f"dataset.cache_limit_gb is {self.cache_limit / _GB:g}, but {window} shards of up "
                f"to {largest:,} bytes are needed at a time; it must be >= {needed / _GB:.3g}, or "
                "dataset.shuffle_window smaller"
            )

    def _small_file(self, split: str, name: str, limit: int) -> bytes:
        """An index or a table, as it is there now: what a run is to read must not be stale."""
        source = f"{self.root}/{split}"
        try:
            if self._is_local:
                with open_file(Path(source) / name) as file:
                    data = file.read(limit + 1)
            else:
                assert self.cache is not None
                fetch = self._fetcher(split, limit)
                data = _fetch_small(fetch, name, self.cache, limit)
        except Exception as error:  # each service has its own
            reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            raise ValueError(
                f"{source}/{name} cannot be read: {printable(reason, 300)}{_REMEDIES[name]}"
            ) from error
        if len(data) > limit:
            raise ValueError(f"{source}/{name} is larger than {limit:,} bytes; expected less")
        return data


_REMEDIES = {
    INDEX: "\nexpected MDS shards, as mosaicml-streaming writes them, in a folder for each of "
    "dataset.splits",
    TABLE: '\nit is made where the shards lie on a disk: python -c "from dltrain.data.shard_table '
    "import write_table; write_table('FOLDER', image='image', label='label')\"",
}


def _fetch_small(fetch: Callable[[str, Path], None], name: str, cache: Path, limit: int) -> bytes:
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{secrets.token_hex(8)}-{name}.part"
    try:
        fetch(name, path)
        with path.open("rb") as file:
            return file.read(limit + 1)
    finally:
        path.unlink(missing_ok=True)


class ShardShelf:
    """The images of a split, in its shards: a `Shelf` of `Pictures`.

    shards: what `Order` wants to know: the samples of each shard, and the window.
    """

    decodes = True

    def __init__(self, shards: Shards, *, column: int, name: str, window: int) -> None:
        self._shards, self._column, self._name = shards, column, name
        self.shards = shards.sizes, window

    def __len__(self) -> int:
        return len(self._shards)

    def load(self, index: int, *, shrink: int, exact: bool) -> np.ndarray:
        return decode(self._shards.read(index, self._column), shrink=shrink, exact=exact)

    def identity(self, count: int) -> Iterator[bytes]:
        """What the index says of the shards, their digests where it has them."""
        for shard in self._shards.index.shards:
            yield f"{tuple(shard)}\0".encode()

    def describe(self, index: int) -> str:
        shard, row = self._shards.place(index)
        return f"sample {index} of {self._name} ({row} of {self._shards.index.shards[shard].name})"
