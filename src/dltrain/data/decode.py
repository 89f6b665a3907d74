"""The bytes of an image file -> pixels: JPEG by libjpeg-turbo itself, all else by Pillow.

simplejpeg gives the pixels that Pillow gives, to the bit, in 0.4 to 0.8 of its time: Pillow brings
the same library, and copies every row once more.
"""

import io

import numpy as np
import simplejpeg

from dltrain.data.formats import MAX_PIXELS, open_image, orientation_of, to_rgb

_BEGIN, _SCAN = b"\xff\xd8", b"\xda"  # ITU-T T.81, table B.1
# Where the orientation of a picture can stand; see Pillow's `Image.getexif`
_MAY_TURN = (b"Exif\0\0", b"tiff:Orientation")


def decode(data: bytes, *, shrink: int = 1, exact: bool = True) -> np.ndarray:
    """uint8 [H, W, 3], upright.

    shrink: 1, 2, 4 or 8. A JPEG may come at this fraction of its size, which costs less than all of
    it. exact: with the slow, exact cosine transform and smooth colours, as everyone else has it by
    default; else with faster ones, which differ a little in most pixels and much in a few.

    Raises ValueError where the bytes are no whole image of a known format.
    """
    if not data.startswith(_BEGIN) or not _is_plain(data):
        return to_rgb(open_image(io.BytesIO(data)))
    height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
    if colors in ("CMYK", "YCCK") or height * width > MAX_PIXELS:  # the latter is refused there
        return to_rgb(open_image(io.BytesIO(data)))
    try:
        return simplejpeg.decode_jpeg(
            data,
            fastdct=not exact,
            fastupsample=not exact,
            min_height=-(-height // shrink),
            min_width=-(-width // shrink),
            min_factor=shrink,
        )
    except ValueError:  # stricter than Pillow, which skips what is damaged as far as it can
        return to_rgb(open_image(io.BytesIO(data)))


def _is_plain(data: bytes) -> bool:
    """Whether nothing asks for the picture to be turned."""
    head = data[: _begin_of_scan(data)]  # a search through all of it takes 6% of a decoding
    if not any(mark in head for mark in _MAY_TURN):
        return True
    return orientation_of(open_image(io.BytesIO(data))) == 1


def _begin_of_scan(data: bytes) -> int:
    """Where the pixels of a JPEG begin: all that is told of it comes before."""
    place = len(_BEGIN)
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] != _SCAN:
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        place += 2 + max(2, length)
    return place
