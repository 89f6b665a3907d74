"""samples.npy: what a run needs to know of all samples before it has read their shards.

int64 [N, 3]: labels, heights and widths. It lies beside index.json, and is made by `write_table`
where the shards lie on a disk.
"""

import io
from pathlib import Path

import numpy as np

from dltrain.data.download import replacing
from dltrain.data.files import printable
from dltrain.data.shards import INDEX, MAX_INDEX_BYTES, Column, Index, Shard, Shards, parse_index

TABLE = "samples.npy"
ENCODED = ("jpeg", "png", "bytes")  # of columns that hold an image file
_LABELS = {"int": "<i8"} | {
    f"{sign}int{bits}": f"<{sign or 'i'}{bits // 8}"
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}
_MAX_HEADER = 128  # bytes of a .npy file before its numbers, as numpy writes it


def max_table_bytes(num_samples: int) -> int:
    return 2 * _MAX_HEADER + num_samples * 3 * 8


def parse_table(data: bytes, source: str, *, num_samples: int) -> np.ndarray:
    """int64 [N, 3]. Raises ValueError where it is anything else."""
    try:
        table = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # of what it raises for a stranger's bytes there is no list
        reason = printable(str(error), 200)
        raise ValueError(f"{source}: it is no .npy file ({reason})") from error
    shape, dtype = getattr(table, "shape", ()), getattr(table, "dtype", "several arrays")
    if dtype != np.int64 or shape != (num_samples, 3):
        raise ValueError(
            f"{source}: it holds {dtype} of shape {list(shape)}; expected int64 "
            f"[{num_samples}, 3]. Make it again where the shards lie"
        )
    if table.min() < 0 or table[:, 1:].min(initial=1) < 1 or table.max() >= 1 << 31:
        raise ValueError(f"{source}: a label, height or width in it is out of range")
    return table


def write_table(folder: str | Path, *, image: str, label: str) -> Path:
    """Makes samples.npy of the split in `folder`, by reading every label and image header once.

    image, label: names of columns. Raises ValueError where the shards are not fit.
    """
    folder = Path(folder)
    index = read_local_index(folder)
    shards = Shards(index, lambda shard: folder / shard.name)
    at_image, at_label = index.column(image, "image"), index.column(label, "label")
    check_images(index.columns[at_image])
    label_type = label_dtype(index.columns[at_label])
    table = np.empty((len(shards), 3), np.int64)
    for sample in range(len(shards)):
        table[sample, 0] = np.frombuffer(shards.read(sample, at_label), label_type)[0]
        table[sample, 1:] = _size_of(shards.read(sample, at_image), sample)
    with replacing(folder / TABLE) as part, part.open("xb") as file:
        np.save(file, table, allow_pickle=False)
    return folder / TABLE


def read_local_index(folder: Path) -> Index:
    """Of a split in a folder, whose shards are all there. Raises ValueError, FileNotFoundError."""
    path = folder / INDEX
    with path.open("rb") as file:
        index = parse_index(file.read(MAX_INDEX_BYTES + 1), str(path))
    for shard in index.shards:
        check_shard(folder / shard.name, shard)
    return index


def check_shard(path: Path, shard: Shard) -> None:
    """Raises ValueError unless it is a file of the size that the index says."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file, which its {INDEX} lists")
    if path.stat().st_size != shard.num_bytes:
        found = f"{path.stat().st_size:,} bytes"
        raise ValueError(f"{path}: it has {found}; its {INDEX} says {shard.num_bytes:,}")


def check_images(column: Column) -> None:
    """Raises ValueError unless the column holds image files."""
    if column.encoding not in ENCODED:
        raise ValueError(
            f"column {printable(column.name)} holds {printable(column.encoding)}; images must be "
            f"written as one of {', '.join(ENCODED)}"
        )


def label_dtype(column: Column) -> np.dtype:
    if column.encoding not in _LABELS:
        raise ValueError(
            f"column {printable(column.name)} holds {printable(column.encoding)}; labels must be "
            f"written as one of {', '.join(_LABELS)}"
        )
    return np.dtype(_LABELS[column.encoding])


def _size_of(data: bytes, sample: int) -> tuple[int, int]:
    """Height and width by the header, as seen."""
    from dltrain.data.formats import open_image
    from dltrain.data.headers import kind_of

    try:
        with open_image(io.BytesIO(data)) as image:
            return kind_of(image)[:2]
    except ValueError as error:
        raise ValueError(f"sample {sample} is no image: {printable(str(error), 200)}") from error
