"""Vectors for TensorBoard's projector: files beside the events, named by no absolute path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dltrain.durable import naming
from dltrain.plain import printable

if TYPE_CHECKING:
    import numpy as np

FOLDER = "projector"
CONFIG = "projector_config.pbtxt"  # TensorBoard looks for this name, in the run's directory
MAX_SPRITE = 8192  # pixels a side: more than most browsers' GPUs take


def write_projector(
    run_dir: Path, vectors: np.ndarray, labels: Sequence[str], images: np.ndarray | None
) -> None:
    """vectors: [N, D]. labels: one each. images: uint8 [N, H, W, C], or None."""
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    count, width = vectors.shape
    files = {
        "tensors.bytes": vectors.astype("<f4").tobytes(),
        "labels.tsv": "".join(f"{one_line(label)}\n" for label in labels).encode(),
    }
    lines = [
        "embeddings {",
        '  tensor_name: "features"',
        f'  tensor_path: "{FOLDER}/tensors.bytes"',
        f"  tensor_shape: {count}",
        f"  tensor_shape: {width}",
        f'  metadata_path: "{FOLDER}/labels.tsv"',
    ]
    if images is not None:
        sprite, height, width = make_sprite(images)
        files["sprite.png"] = sprite
        lines += [
            "  sprite {",
            f'    image_path: "{FOLDER}/sprite.png"',
            f"    single_image_dim: {width}",
            f"    single_image_dim: {height}",
            "  }",
        ]
    for name, content in files.items():
        replace(folder / name, content)
    replace(run_dir / CONFIG, "\n".join([*lines, "}", ""]).encode())


def replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming(path, len(content)):
        temporary.write_bytes(content)
        os.replace(temporary, path)


def one_line(text: str) -> str:
    return printable(text[:100]) or "?"


def make_sprite(images: np.ndarray) -> tuple[bytes, int, int]:
    """All images in rows of as many as there are rows, as PNG; and the height and width of one."""
    import numpy as np

    from dltrain.loggers.images import encode_png

    side = int(np.ceil(np.sqrt(len(images))))
    step = -(-max(images.shape[1:3]) * side // MAX_SPRITE)  # every so many pixels
    images = images[:, ::step, ::step]
    _, height, width, channels = images.shape
    missing = side**2 - len(images)
    cells = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)))
    grid = cells.reshape(side, side, height, width, channels).swapaxes(1, 2)
    return encode_png(grid.reshape(side * height, side * width, channels)), height, width
