"""Image files as cameras and programs write them, small, for tests of reading them."""

import numpy as np
from PIL import Image


def pixels(height, width, seed=0):
    """uint8 [height, width, 3]: slopes and edges, as pictures have them, and a little noise."""
    random = np.random.RandomState(seed)
    row, column = np.mgrid[:height, :width]
    channels = [
        127 + 90 * np.sin(row / (3 + seed % 5) + seed) * np.cos(column / 9),
        255 * ((row // 7 + column // 11 + seed) % 2),
        255 * column / max(1, width - 1),
    ]
    noise = random.randint(-8, 9, (height, width, 3))
    return (np.stack(channels, 2) + noise).clip(0, 255).astype(np.uint8)


def write_photo(path, height, width, seed=0, **options):
    """An image file of the format of its name; options are Pillow's of saving."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(height, width, seed)).save(path, **options)
    return path


def make_folder(root, *, num_train=24, num_val=10, num_classes=3):
    """root/train and root/val of JPEGs of many sizes, some of them PNGs, by class."""
    for split, number in (("train", num_train), ("val", num_val)):
        for index in range(number):
            suffix = "png" if index % 7 == 3 else "jpg"
            path = root / split / f"class {index % num_classes}" / f"{index:03d}.{suffix}"
            options = {} if suffix == "png" else {"quality": 90, "subsampling": index % 3}
            write_photo(path, 20 + 5 * (index % 6), 24 + 7 * (index % 5), seed=index, **options)
    return root


def write_damaged(path, seed=0):
    """A PNG whose header and end are whole, and whose pixels cannot be decoded."""
    whole = write_photo(path, 64, 64, seed=seed).read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(200) + whole[middle + 200 :])
    return path
