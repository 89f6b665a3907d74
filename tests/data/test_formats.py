"""Every kind of image file as RGB: right pixels, upright, or a reason why not."""

import io
import warnings

import numpy as np
import pytest
from image_files import SIZE, encoded, picture, pixels, rotated, sixteen_bits
from PIL import Image, ImageOps

from dltrain.data.formats import mode_of, open_image, orientation_of, to_rgb
from dltrain.data.listing import MAX_PIXELS, MODES


def rgb(content: bytes) -> np.ndarray:
    return to_rgb(open_image(io.BytesIO(content)))


PLAIN = {
    "color JPEG": encoded(),
    "color PNG": encoded(kind="PNG"),
    "color WebP": encoded(kind="WEBP"),
    "lossless WebP": encoded(kind="WEBP", lossless=True),
    "color BMP": encoded(kind="BMP"),
    "gray JPEG": encoded(picture("L")),
    "gray PNG": encoded(picture("L"), "PNG"),
    "gray BMP": encoded(picture("L"), "BMP"),
    "1-bit PNG": encoded(picture("1"), "PNG"),
    "1-bit BMP": encoded(picture("1"), "BMP"),
    "palette PNG": encoded(picture("P"), "PNG"),
    "palette PNG of 4 bits": encoded(picture().quantize(9), "PNG", bits=4),
    "palette BMP": encoded(picture("P"), "BMP"),
    "CMYK JPEG": encoded(picture("CMYK")),
    "progressive JPEG": encoded(progressive=True),
    "opaque RGBA PNG": encoded(picture("RGBA"), "PNG"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_needs_no_decision_is_what_pillow_converts(name):
    found = rgb(PLAIN[name])
    with Image.open(io.BytesIO(PLAIN[name])) as image:
        np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))
    assert found.shape == (*SIZE[::-1], 3)
    assert (found.dtype, found.flags.writeable, found.flags.c_contiguous) == (np.uint8, True, True)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_formats_give_back_the_bytes(kind):
    np.testing.assert_array_equal(rgb(encoded(kind=kind)), pixels())


def test_sixteen_bits_are_scaled_with_rounding_and_never_clipped():
    values = np.array([[0, 128, 129, 257, 385, 386], [32767, 32768, 65278, 65279, 65406, 65535]])
    expected = np.round(values / 257).astype(np.uint8)
    assert expected.max() == 255
    np.testing.assert_array_equal(rgb(sixteen_bits(values)), np.stack([expected] * 3, axis=2))


@pytest.mark.parametrize("mode", ["I", "I;16", "I;16B"])
def test_every_way_in_which_pillow_holds_sixteen_bits_is_scaled(mode):
    values = np.array([[0, 40000, 65535]])
    dtype = {"I": "<i4", "I;16": "<u2", "I;16B": ">u2"}[mode]
    image = Image.frombytes(mode, (3, 1), values.astype(dtype).tobytes())
    assert to_rgb(image)[0, :, 0].tolist() == [0, 156, 255]


def test_whole_numbers_beyond_sixteen_bits_are_refused_and_not_clipped():
    image = Image.frombytes("I", (2, 1), np.array([0, 65536], "<i4").tobytes())
    with pytest.raises(ValueError, match="from 0 to 65536; expected 16 bits"):
        to_rgb(image)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_laid_over_white(mode):
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 128))
    assert rgb(encoded(image.convert(mode), "PNG"))[0, :, 0].tolist() == [255, 0, 127]


def test_a_transparent_entry_of_a_palette_is_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    content = encoded(image, "PNG", transparency=0)
    assert rgb(content)[0].tolist() == [[255, 255, 255], [40, 50, 60]]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_color_without_a_palette_is_white(mode):
    image = Image.new(mode, (2, 1), "black")
    image.putpixel((1, 0), (9, 9, 9) if mode == "RGB" else 9)
    content = encoded(image, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert rgb(content)[0, :, 0].tolist() == [255, 9]


def test_inverted_cmyk_as_photoshop_writes_it_is_not_a_negative():
    white = rgb(encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0))))
    assert white.min() >= 250
    red = rgb(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0))))
    assert red[..., 0].min() >= 250
    assert red[..., 1:].max() <= 5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_upright(orientation, kind):
    content = rotated(orientation, kind)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    found = rgb(content)
    np.testing.assert_array_equal(found, expected)
    assert found.shape[:2] == (SIZE if orientation >= 5 else SIZE[::-1])
    assert orientation_of(open_image(io.BytesIO(content))) == orientation


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(orientation):
    np.testing.assert_array_equal(rgb(rotated(orientation, "PNG")), pixels())


def test_damaged_exif_is_none():
    content = encoded(exif=b"Exif\0\0" + b"MM\0*\xff\xff\xff\xff" + bytes(20))
    np.testing.assert_array_equal(rgb(content), rgb(encoded()))


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (encoded(), "color"),
        (encoded(picture("L")), "grayscale"),
        (encoded(picture("1"), "PNG"), "1-bit"),
        (encoded(picture("P"), "PNG"), "palette"),
        (encoded(picture("P"), "PNG", transparency=0), "alpha"),
        (encoded(picture("LA"), "PNG"), "alpha"),
        (encoded(picture("RGBA"), "WEBP"), "color"),  # opaque: it is stored without
        (sixteen_bits(np.zeros((2, 2))), "16-bit"),
        (encoded(picture("CMYK")), "CMYK"),
    ],
)
def test_what_will_be_converted_is_known_from_the_header(content, mode):
    assert MODES[mode_of(open_image(io.BytesIO(content)))] == mode


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_a_body_that_was_cut_off_is_an_error_with_a_reason(kind):
    large = Image.fromarray(np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8))
    content = encoded(large, kind)
    image = open_image(io.BytesIO(content[: len(content) // 2]))
    with pytest.raises(ValueError, match=r"it cannot be decoded \(.*truncated"):
        to_rgb(image)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM", "ICO"])
def test_other_formats_are_not_opened(kind):
    with pytest.raises(ValueError, match="it is not a JPEG, PNG, WebP or BMP image"):
        open_image(io.BytesIO(encoded(kind=kind)))


def bomb(width: int, height: int) -> bytes:
    """A BMP header that claims so many pixels."""
    content = bytearray(encoded(kind="BMP"))
    content[18:26] = np.array([width, height], "<i4").tobytes()
    return bytes(content)


@pytest.mark.parametrize("size", [(13378, 13378), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_by_its_header(size):
    with pytest.raises(ValueError, match="pixels"):
        open_image(io.BytesIO(bomb(*size)))


def test_the_limit_is_ours_where_pillows_was_taken_away(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ValueError, match="it has 13,378 x 13,378 pixels; expected from 1 to 178,9"):
        open_image(io.BytesIO(bomb(13378, 13378)))


def test_the_limit_on_pixels_is_pillows_and_no_warning_comes_before_it():
    assert MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(io.BytesIO(bomb(13000, 13000))).size == (13000, 13000)
