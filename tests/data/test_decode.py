"""A picture is upright wherever in its file it is said to be turned, and nothing else turns it."""

import io

import numpy as np
import pytest
from image_files import rotated
from PIL import Image

from dltrain.data.decode import decode

COMMENT = b"\xff\xfe\xff\xff" + bytes(range(256)) * 255 + bytes(253)


def as_pillow(content):
    from PIL import ImageOps

    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))


@pytest.mark.parametrize("before", [b"", COMMENT, COMMENT * 3, b"\xff\xff\xff"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_what_turns_a_picture_is_found_behind_other_segments(orientation, before):
    plain = rotated(orientation)
    content = plain[:2] + before + plain[2:]
    np.testing.assert_array_equal(decode(content), as_pillow(plain))


def test_words_that_stand_among_the_pixels_turn_nothing():
    plain = rotated(1)
    words = rotated(6)[2:200]
    assert b"Exif\0\0" in words
    np.testing.assert_array_equal(decode(plain + words), as_pillow(plain))
