"""Writes MDS shards as mosaicml-streaming 0.13 does, for machines that do not have it."""

import hashlib
import io
import json

import numpy as np
from PIL import Image

COLUMNS = {"image": ("jpeg", None), "label": ("int", 8)}


def jpeg(number: int, *, height: int = 12, width: int = 16, **options) -> bytes:
    """A picture of one colour, by its number."""
    file = io.BytesIO()
    pixels = np.full((height, width, 3), number * 7 % 256, np.uint8)
    Image.fromarray(pixels).save(file, format="JPEG", quality=95, **options)
    return file.getvalue()


def shard_bytes(samples, columns) -> bytes:
    config = json.dumps({"columns": sorted(columns)}).encode()
    packed = []
    for sample in samples:
        values = [sample[name] for name in sorted(columns)]
        varying = [
            len(v)
            for v, name in zip(values, sorted(columns), strict=True)
            if columns[name][1] is None
        ]
        packed.append(np.array(varying, np.uint32).tobytes() + b"".join(values))
    offsets = np.cumsum([0, *map(len, packed)]) + 4 + 4 * (len(packed) + 1) + len(config)
    head = np.uint32(len(packed)).tobytes() + offsets.astype(np.uint32).tobytes()
    return head + config + b"".join(packed)


def write_split(folder, samples, *, per_shard=5, columns=COLUMNS, digest="sha256"):
    """Shards and index.json of samples (dicts of bytes) in a new folder. Gives the index."""
    folder.mkdir(parents=True)
    names = sorted(columns)
    shards = []
    for number, begin in enumerate(range(0, len(samples), per_shard)):
        data = shard_bytes(samples[begin : begin + per_shard], columns)
        name = f"shard.{number:05}.mds"
        (folder / name).write_bytes(data)
        hashes = {digest: hashlib.new(digest, data).hexdigest()} if digest else {}
        shards.append({
            "column_encodings": [columns[n][0] for n in names],
            "column_names": names,
            "column_sizes": [columns[n][1] for n in names],
            "compression": None, "format": "mds", "hashes": list(hashes),
            "raw_data": {"basename": name, "bytes": len(data), "hashes": hashes},
            "samples": len(samples[begin : begin + per_shard]),
            "size_limit": None, "version": 2, "zip_data": None,
        })  # fmt: skip
    index = {"shards": shards, "version": 2}
    (folder / "index.json").write_text(json.dumps(index))
    return index


def pictures(num_samples: int, *, num_classes: int = 3):
    """Samples of different sizes; the label is the number modulo num_classes."""
    return [
        {
            "image": jpeg(i, height=10 + i % 4, width=12 + i % 3),
            "label": np.int64(i % num_classes).tobytes(),
        }
        for i in range(num_samples)
    ]
