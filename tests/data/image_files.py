"""Small image files in true formats, and folders of them, for the tests of this folder."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (7, 5)  # width, height


def pixels(seed: int = 0, channels: int = 3) -> np.ndarray:
    """uint8 [5, 7, channels]."""
    width, height = SIZE
    return np.random.RandomState(seed).randint(0, 256, (height, width, channels)).astype(np.uint8)


def picture(mode: str = "RGB", seed: int = 0) -> Image.Image:
    return Image.fromarray(pixels(seed)).convert(mode)


def encoded(image: Image.Image | None = None, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    (picture() if image is None else image).save(file, kind, **options)
    return file.getvalue()


def rotated(orientation: int, kind: str = "JPEG", image: Image.Image | None = None) -> bytes:
    """An image that says of itself how it was held."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, kind, exif=exif)


def sixteen_bits(values: np.ndarray) -> bytes:
    """A gray PNG of uint16 [H, W]."""
    return encoded(Image.fromarray(values.astype(np.uint16)), "PNG")


def write(path: Path, content: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded() if content is None else content)
    return path


def write_tree(root: Path, *, classes: int = 3, images: int = 4, **splits: int) -> Path:
    """root/SPLIT/c0/0.jpg ..., as many for each class as a split says; without any, one tree."""
    for split, count in splits.items() or [("", images)]:
        for label in range(classes):
            for number in range(count):
                write(root / split / f"c{label}" / f"{number}.jpg")
    return root


FACTS = {
    "num_classes": "auto",
    "size": 8,
    "image_shape": [3, 8, 8],
    "crop_fraction": 0.875,
    "mean": [0.5],
    "std": [0.5],
    "num_val": 0.25,
    "split_seed": 0,
    "on_bad_image": "error",
    "decode": "exact",
}
