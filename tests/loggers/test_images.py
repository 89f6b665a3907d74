"""A sheet shows every pixel of every image, and Pillow reads the PNG back."""

import io

import numpy as np
import pytest
from PIL import Image

from dltrain.loggers.images import GAP, GAP_VALUE, encode, encode_png, sheet


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 33)])
def test_png_is_lossless(size, channels):
    picture = random_images(*size, channels)
    decoded = Image.open(io.BytesIO(encode_png(picture)))
    assert decoded.mode == {1: "L", 3: "RGB"}[channels]
    np.testing.assert_array_equal(np.asarray(decoded).reshape(picture.shape), picture)


@pytest.mark.parametrize("channels", [1, 3])
def test_sheet_holds_the_images_row_by_row_enlarged(channels):
    images = random_images(5, 8, 6, channels)
    picture = sheet(images, max_images=64)
    assert picture.shape == (
        2 * 64 + GAP,
        3 * 48 + 2 * GAP,
        channels,
    )  # 2 rows of 3, 8 times as large
    for number, image in enumerate(images):
        top, left = (number // 3) * (64 + GAP), (number % 3) * (48 + GAP)
        shown = picture[top : top + 64, left : left + 48]
        np.testing.assert_array_equal(shown[::8, ::8], image)
        np.testing.assert_array_equal(shown[7::8, 7::8], image)
    assert (picture[64 : 64 + GAP] == GAP_VALUE).all()
    assert (picture[64 + GAP :, 2 * (48 + GAP) :] == GAP_VALUE).all()  # the place left over


def test_at_most_max_images_are_shown():
    images = random_images(100, 64, 64, 1)
    np.testing.assert_array_equal(sheet(images, max_images=16), sheet(images[:16], max_images=64))


def test_large_images_make_a_sheet_of_bounded_size():
    picture = sheet(random_images(64, 224, 224, 3), max_images=64)
    assert picture.shape == (4 * 224 + 3 * GAP, 4 * 224 + 3 * GAP, 3)


def test_one_image_larger_than_a_sheet_is_shown_as_it_is():
    image = random_images(1, 1500, 1200, 1)
    np.testing.assert_array_equal(sheet(image, max_images=64), image[0])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_that_is_large_as_png_becomes_a_jpeg(channels):
    rough = random_images(1024, 1024, channels) // 8
    data = encode(rough)
    decoded = Image.open(io.BytesIO(data))
    assert (decoded.format, decoded.size) == ("JPEG", (1024, 1024))
    assert encode(rough[:64, :64]) == encode_png(rough[:64, :64])
