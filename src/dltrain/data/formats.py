"""Image files of every kind that is read, as RGB: within limits, upright, 8 bits a channel."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np

# Each plugin registers itself; left to Pillow, the first WebP would import all forty of them.
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from dltrain.data.files import printable
from dltrain.data.listing import MAX_PIXELS, MODES

PLUGINS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    WebPImagePlugin.WebPImageFile,
    BmpImagePlugin.BmpImageFile,
)
_FORMATS = tuple(plugin.format.upper() for plugin in PLUGINS)
_ORIENTATION = 0x0112  # EXIF 2.3, table 4
_Turn = Image.Transpose
_UPRIGHT = {
    2: _Turn.FLIP_LEFT_RIGHT,
    3: _Turn.ROTATE_180,
    4: _Turn.FLIP_TOP_BOTTOM,
    5: _Turn.TRANSPOSE,
    6: _Turn.ROTATE_270,
    7: _Turn.TRANSVERSE,
    8: _Turn.ROTATE_90,
}
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def open_image(file: BinaryIO) -> Image.Image:
    """The header of a JPEG, PNG, WebP or BMP, whatever its name says; pixels are read later.

    The file stays the caller's to close: Pillow keeps one of several pictures open.
    Raises ValueError, in words that follow a file's name, for anything else and for what is larger
    than MAX_PIXELS.
    """
    try:
        with _quiet():
            image = Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(f"it has more than {MAX_PIXELS:,} pixels") from error
    except Image.UnidentifiedImageError as error:
        raise ValueError("it is not a JPEG, PNG, WebP or BMP image") from error
    except Exception as error:  # of what a hostile header may raise there is no list
        raise ValueError(_damaged("its header is damaged", error)) from error
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(
            f"it has {width:,} x {height:,} pixels; expected from 1 to {MAX_PIXELS:,} in all"
        )
    return image


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; to be asked before the pixels are read.

    A PNG may have it behind its pixels, too, where nobody looks without reading them: not here.
    """
    try:
        with _quiet():
            value = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # EXIF is a stranger's, and many a camera's is damaged: the picture is not
        return 1
    return value if type(value) is int and value in _UPRIGHT else 1


def mode_of(image: Image.Image) -> int:
    """The place in MODES of what `to_rgb` will have to convert."""
    if image.mode in _SIXTEEN_BITS:
        return MODES.index("16-bit")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return MODES.index("alpha")
    names = {"1": "1-bit", "L": "grayscale", "P": "palette", "CMYK": "CMYK"}
    return MODES.index(names.get(image.mode, "color"))


def to_rgb(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, 3], upright as EXIF says.

    16 bits a pixel become 8 by rounding v / 257 (a PNG's three channels of 16 bits by their upper
    8, which is as Pillow reads them); what is transparent is laid over white, as a page would show
    it; CMYK is converted without a colour profile, and profiles are not applied. For an image with
    none of these, and no rotation, it is what `image.convert("RGB")` gives.

    Raises ValueError, in words that follow a file's name, where the pixels cannot be decoded.
    """
    orientation = orientation_of(image)
    load(image)
    image = _as_rgb(image)
    if orientation != 1:
        image = image.transpose(_UPRIGHT[orientation])
    return np.array(image)


def load(image: Image.Image) -> None:
    """Decodes the pixels. Raises ValueError, in words that follow a file's name."""
    try:
        with _quiet():
            image.load()
    except MemoryError:
        raise
    except Exception as error:  # OSError mostly; of what damaged data may raise there is no list
        raise ValueError(_damaged("it cannot be decoded", error)) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of large images, which have our limit, and of damaged EXIF, in each worker."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _as_rgb(image: Image.Image) -> Image.Image:
    kind = MODES[mode_of(image)]
    if kind == "16-bit":
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if kind == "alpha":
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """uint8 of values from 0 to 65535, rounded."""
    wide = values.astype(np.int32)
    if wide.min() < 0 or wide.max() > 0xFFFF:
        raise ValueError(f"it has values from {wide.min()} to {wide.max()}; expected 16 bits")
    return ((wide + 128) // 257).astype(np.uint8)


def _damaged(what: str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{what} ({printable(reason, 100)})"
