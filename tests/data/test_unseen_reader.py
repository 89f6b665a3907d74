"""Image files that are read as they are named: in order, a few at a time, good and bad."""

import io
import os

import numpy
import pytest
from image_files import encoded, picture, write

from dltrain.data.image_paths import MAX_PATH, expand, listed
from dltrain.data.unseen import Unseen, gray
from dltrain.data.unseen_reader import read_files

SHAPE = (3, 8, 8)


@pytest.fixture
def files(tmp_path):
    """Thirty paths; every fifth is no image."""
    for number in range(30):
        bad = number % 5 == 4
        write(tmp_path / f"{number:02d}.jpg", b"x" if bad else encoded(picture(seed=number)))
    return [os.fsencode(path) for path in sorted(tmp_path.iterdir())]


def read(paths, *, batch_size=4, num_workers=0):
    unseen = Unseen(SHAPE, crop_fraction=0.875)
    return read_files(
        iter(paths), unseen, batch_size=batch_size, num_workers=num_workers, channels_last=True
    )


@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_all_come_in_order_with_their_pixels_or_a_reason(num_workers, batch_size, files):
    unseen, paths, samples = Unseen(SHAPE, crop_fraction=0.875), [], []
    for part in read(files, batch_size=batch_size, num_workers=num_workers):
        paths += part.paths
        good = [path for path, reason in zip(part.paths, part.reasons, strict=True) if not reason]
        assert len(part.samples) == len(good)
        samples += [(path, sample.copy()) for path, sample in zip(good, part.samples, strict=True)]
        bad = [path for path, reason in zip(part.paths, part.reasons, strict=True) if reason]
        assert all(path[-6:-4] in (b"04", b"09", b"14", b"19", b"24", b"29") for path in bad)
    assert paths == files
    assert len(samples) == 24
    for path, sample in samples:
        assert (sample == unseen.convert(os.fsdecode(path))).all()


def test_no_more_is_named_ahead_than_is_read(files):
    """However many there are: nobody asks for the next path before there is room for it."""
    named = []

    def endless():
        while True:
            named.append(1)
            yield files[0]

    parts = read(endless())
    for taken in range(1, 50):
        next(parts)
        assert len(named) <= (taken + 3) * 4
    parts.close()


def test_a_folder_is_its_images_however_deep_in_the_order_of_names(tmp_path):
    names = ["b/2.PNG", "b/10.jpeg", "a.webp", "c/d/e.bmp", "z.jpg"]
    for name in names:
        write(tmp_path / name, b"")
    for name in ("b/notes.txt", ".hidden/x.png", "b/.x.png", "jpg"):
        write(tmp_path / name, b"")
    (tmp_path / "c" / "loop").symlink_to(tmp_path)
    (tmp_path / "y").symlink_to(tmp_path / "c" / "d")
    found = [
        os.path.relpath(path, os.fsencode(tmp_path)) for path in expand([os.fsencode(tmp_path)])
    ]
    assert found == [b"a.webp", b"b/10.jpeg", b"b/2.PNG", b"c/d/e.bmp", b"y/e.bmp", b"z.jpg"]
    assert list(expand([b"typed.txt"])) == [b"typed.txt"]


@pytest.mark.parametrize("size", [1, 3, 1 << 16])
@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_a_list_is_read_in_any_pieces(size, end, monkeypatch):
    paths = [b"a", b"b c", b"\xff\xfe", b"x" * 300]
    if end == b"\0" and size < 300:
        paths = [b"", *paths]  # that NUL separates must be seen in the first piece
    monkeypatch.setattr("dltrain.data.image_paths._CHUNK", size)
    found = list(listed(io.BytesIO(end.join(paths))))
    assert found == [path for path in paths if path]


def test_a_line_without_end_takes_no_memory():
    class Endless:
        left = 2000

        def read1(self, size):
            self.left -= 1
            return b"x" * size if self.left > 0 else b""

    (found,) = listed(Endless())
    assert len(found) <= 3 * (1 << 16)
    assert len(found) >= MAX_PATH


def test_gray_is_pillow_s():
    pixels = numpy.random.RandomState(0).randint(0, 256, (60, 70, 3)).astype(numpy.uint8)
    from PIL import Image

    assert (gray(pixels)[..., 0] == numpy.asarray(Image.fromarray(pixels).convert("L"))).all()
