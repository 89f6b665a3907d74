"""The check of every header before the first step: what is good, and what is wrong with others."""

import os
import random
from contextlib import suppress

import numpy as np
import pytest
from data_files import peak_memory
from image_files import SIZE, encoded, picture, rotated, sixteen_bits, write
from malformed_bytes import replaced, socket_at
from PIL import Image

from dltrain.data import headers
from dltrain.data.formats import open_image, to_rgb
from dltrain.data.headers import check_headers, read_header
from dltrain.data.listing import FORMATS, KIND, MODES, Names

LARGE = Image.fromarray(np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8))
NOISE = random.Random(1).randbytes(999)


def check(path) -> dict:
    kind = np.array(read_header(os.fsencode(path)), KIND)
    return {name: int(kind[name]) for name in KIND.names}


def decoded_size(path) -> tuple[int, ...]:
    with path.open("rb") as file:
        return to_rgb(open_image(file)).shape[:2]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_good_file_is_known_by_its_header(tmp_path, kind):
    found = check(write(tmp_path / "a", encoded(kind=kind)))
    assert found == {
        "height": SIZE[1],
        "width": SIZE[0],
        "format": FORMATS.index(kind),
        "mode": 0,
        "orientation": 1,
    }


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_upright_image(tmp_path, orientation):
    path = write(tmp_path / "a.jpg", rotated(orientation))
    found = check(path)
    assert (found["height"], found["width"]) == decoded_size(path)
    assert found["orientation"] == orientation


GOOD = {
    "a wrong suffix": encoded(kind="PNG"),
    "zeros behind it": encoded() + bytes(9),
    "a line behind it": encoded() + b"\r\n",
    "a video behind it": encoded() + NOISE,
    "a JPEG twice": encoded() * 2,
    "more behind a PNG": encoded(kind="PNG") + NOISE,
    "more behind a WebP": encoded(kind="WEBP") + NOISE,
    "more behind a BMP": encoded(kind="BMP") + NOISE,
    "a JPEG with a second picture": encoded(
        LARGE, "MPO", save_all=True, append_images=[LARGE.copy()]
    ),
    "damaged EXIF": encoded(exif=b"Exif\0\0" + b"MM\0*\xff\xff\xff\xff" + bytes(20)),
    "16 bits": sixteen_bits(np.zeros((5, 7))),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_can_be_decoded_is_no_false_alarm(tmp_path, name):
    path = write(tmp_path / "a.jpg", GOOD[name])
    found = check(path)
    assert (found["height"], found["width"]) == decoded_size(path)


SMALL_GIF = encoded(picture("P"), "GIF")
BAD = {
    **{name: (content, "^its? ") for name, content in replaced(encoded()).items()},
    "nothing": (b"", "it is empty"),
    "web page": (replaced(b"")["web page"], "it is a web page"),
    "LFS pointer": (replaced(b"")["LFS pointer"], "`git lfs pull` fetches it"),
    "GIF": (SMALL_GIF, "it is a GIF; expected JPEG, PNG, WebP or BMP"),
    "TIFF": (encoded(kind="TIFF"), "it is a TIFF"),
    "AVIF": (b"\0\0\0\x20ftypavif" + bytes(99), "it is an AVIF, HEIC or video"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is an SVG"),
    "a JPEG cut in half": (encoded(LARGE)[:2000], "it cannot be decoded .*truncated"),
    "a JPEG cut in its header": (encoded()[:100], "^its? "),
    "a PNG cut in half": (encoded(LARGE, "PNG")[:5000], "it cannot be decoded .*truncated"),
    "a PNG cut in its header": (encoded(kind="PNG")[:20], "^its? "),
    "a WebP cut in half": (encoded(LARGE, "WEBP", lossless=True)[:5000], "^its? "),
    "a BMP cut in half": (encoded(LARGE, "BMP")[:5000], "it cannot be decoded .*truncated"),
    "a PNG of much text": (
        encoded(kind="PNG")[:33]
        + b"\0\0\0\0zTXt"  # a chunk without a name
        + bytes(4),
        "^its? ",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_good_image_has_its_reason(tmp_path, name):
    content, reason = BAD[name]
    path = write(tmp_path / "a.jpg", content)
    with peak_memory(64 << 20), pytest.raises(ValueError, match=reason) as caught:
        check(path)
    message = str(caught.value)
    assert message.startswith(("it ", "its "))
    assert "\n" not in message
    assert len(message) < 250


@pytest.mark.parametrize("seed", range(8))
def test_no_damage_raises_anything_but_a_reason(tmp_path, seed):
    """Bytes are changed at random: the header is refused, or the pixels are, or all is well."""
    random_bytes = random.Random(seed)
    for kind in FORMATS:
        content = bytearray(encoded(LARGE, kind))
        for _ in range(12):
            content[random_bytes.randrange(min(len(content), 700))] = random_bytes.randrange(256)
        path = write(tmp_path / "a", bytes(content))
        with suppress(ValueError):
            found = check(path)
            assert (found["height"], found["width"]) == decoded_size(path)


def test_a_file_without_end_is_not_read(tmp_path):
    path = write(tmp_path / "a.webp", encoded(kind="WEBP"))
    os.truncate(path, 2 << 30)  # sparse
    with peak_memory(1 << 20), pytest.raises(ValueError, match="2,147,483,648 bytes; too many"):
        check(path)


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (os.mkfifo, "not a regular file"),
        (socket_at, "cannot be opened"),
        (lambda path: os.symlink("/dev/zero", path), "not a regular file"),
        (lambda path: os.symlink("gone", path), "a link to nothing"),
        (lambda path: None, "there is no such file"),
        (lambda path: os.symlink(path, path), "cannot be opened"),
        (os.mkdir, "not a regular file"),
    ],
)
def test_what_is_no_file_is_not_waited_for(tmp_path, put, reason):
    put(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=reason):
        check(tmp_path / "a.jpg")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_forbidden_file_says_its_permission(tmp_path):
    path = write(tmp_path / "a.jpg")
    path.chmod(0)
    with pytest.raises(ValueError, match=r"you may not read it \(----------\)"):
        check(path)


def test_forks_find_what_one_process_finds(tmp_path, monkeypatch):
    contents = [encoded(picture("L")), rotated(6), b"", SMALL_GIF, encoded(kind="PNG")]
    for number in range(40):
        write(tmp_path / f"{number:02}", contents[number % 5])
    names = Names.of(f"{number:02}".encode() for number in range(40))
    index = np.arange(1, 40)
    done: list[int] = []
    monkeypatch.setattr(headers, "_BATCH", 7)
    alone = check_headers(os.fsencode(tmp_path), names, index, done.append)
    monkeypatch.setattr(headers, "_FILES_PER_WORKER", 1)
    monkeypatch.setattr(headers, "suitable_workers", lambda: 3)
    descriptors = len(os.listdir("/dev/fd"))
    forked = check_headers(os.fsencode(tmp_path), names, index)
    assert len(os.listdir("/dev/fd")) == descriptors
    np.testing.assert_array_equal(alone[0], forked[0])
    assert alone[1] == forked[1]
    assert set(alone[1]) == {number for number in range(1, 40) if number % 5 in (2, 3)}
    assert done == [7, 14, 21, 28, 35, 39]
    assert MODES[alone[0]["mode"][4]] == "grayscale"  # index 4 is file 05
