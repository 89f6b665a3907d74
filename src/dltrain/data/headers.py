"""The headers of image files, checked before the first step: a bad one is named, with a reason."""

import os
import stat
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import Image

from dltrain.data.files import describe_head, printable
from dltrain.data.formats import load, mode_of, open_image, orientation_of
from dltrain.data.listing import FORMATS, KIND, Names
from dltrain.data.workers import Readers, suitable_workers

MAX_FILE_BYTES = 1 << 30  # of an image; a WebP is read whole to see its header
_MAX_REASON = 200  # bytes
_ANSWER = np.dtype([("kind", KIND), ("reason", f"S{_MAX_REASON}")])
# A file takes 35 us, a fork 2 ms and the cores of others. At most so many forks: what a slow disk
# gains by more, a file server loses.
_FILES_PER_WORKER, _BATCH = 2000, 512
_TAIL = 64
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"
_OTHERS = (  # what is no image for us, by its first bytes
    (b"GIF8", "a GIF"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"8BPS", "a Photoshop file"),
    (b"%PDF", "a PDF"),
    (b"<svg", "an SVG"),
)


def check_headers(
    root: bytes,
    names: Names,
    index: np.ndarray,
    on_progress: Callable[[int], None] = lambda done: None,
) -> tuple[np.ndarray, dict[int, str]]:
    """KIND of the files of index, in its order, and what is wrong with those that are no images.

    Those have zeros for a KIND; the reasons are by their place in `names`. Large numbers are
    shared among forks. Raises WorkerError where a file kills the process that reads it.
    """
    kinds, reasons = np.zeros(len(index), KIND), {}
    num_workers = min(len(index) // _FILES_PER_WORKER, suitable_workers())
    readers = Readers(
        _Headers(root, names),
        batch_size=_BATCH,
        num_ahead=3,
        num_workers=num_workers if num_workers > 1 else 0,
    )
    asked = 0
    try:
        for begin in range(0, len(index), _BATCH):
            while readers.has_room and asked < len(index):
                readers.ask(asked, index[asked : asked + _BATCH, None])
                asked += _BATCH
            answers = readers.take()
            kinds[begin : begin + len(answers)] = answers["kind"]
            for place in np.flatnonzero(answers["kind"]["height"] == 0).tolist():
                reason = bytes(answers["reason"][place]).decode(errors="ignore")
                reasons[int(index[begin + place])] = reason
            on_progress(begin + len(answers))
    finally:
        readers.close()
    return kinds, reasons


class _Headers:
    """The files as a source of headers, for `Readers`."""

    dtype = _ANSWER
    shape: tuple[int, ...] = ()
    channels_last = False

    def __init__(self, root: bytes, names: Names) -> None:
        self._root, self._names = root, names

    def __len__(self) -> int:
        return len(self._names)

    def read(self, index: int, out: np.ndarray, *box: int) -> None:
        try:
            out["kind"] = read_header(os.path.join(self._root, self._names.as_bytes(index)))
            out["reason"] = b""
        except (ValueError, OSError) as error:  # OSError: a broken disk
            out["kind"] = np.zeros((), KIND)
            out["reason"] = str(error).encode(errors="replace")[:_MAX_REASON]

    def describe(self, index: int) -> str:
        return f"the header of {printable(self._names[index], 200)}"


def read_header(path: bytes) -> tuple[int, int, int, int, int]:
    """A KIND. Raises ValueError, in words that follow a file's name, for what cannot be used.

    Files whose last bytes are not those of their format are decoded: some have something harmless
    behind the picture, others have lost a part of it.
    """
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        if not 0 < size <= MAX_FILE_BYTES:
            raise ValueError("it is empty" if not size else f"it has {size:,} bytes; too many")
        try:
            image = open_image(file)
        except ValueError as error:
            raise ValueError(_seen(file) or str(error)) from error
        with image:
            kind = kind_of(image)
            if not _is_whole(image, file, size):
                load(image)
        return kind


def kind_of(image: Image.Image) -> tuple[int, int, int, int, int]:
    """A KIND of what `open_image` has opened."""
    known = {name.upper(): place for place, name in enumerate(FORMATS)}
    width, height = image.size
    orientation = orientation_of(image)
    if orientation >= 5:  # on its side
        width, height = height, width
    # MPO: a JPEG with more pictures behind it
    return height, width, known.get(image.format or "", 0), mode_of(image), orientation


def _open(path: bytes) -> BinaryIO:
    """A regular file; others are not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        link = os.path.islink(path)
        raise ValueError("it is a link to nothing" if link else "there is no such file") from error
    except PermissionError as error:
        raise ValueError(f"you may not read it ({permission(path)})") from error
    except OSError as error:  # a socket, a loop of links, a broken disk
        raise ValueError(f"it cannot be opened ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is not a regular file")
    return os.fdopen(descriptor, "rb")


def permission(path: bytes) -> str:
    """`-rw-------`, or why even that cannot be known."""
    try:
        return stat.filemode(os.stat(path).st_mode)
    except OSError as error:
        return str(error.strerror)


def _seen(file: BinaryIO) -> str:
    """What a file is that is no image, if its beginning tells."""
    file.seek(0)
    head = file.read(512)
    kinds = [what for first, what in _OTHERS if head.lstrip().startswith(first)]
    if head[4:8] == b"ftyp":
        kinds = ["an AVIF, HEIC or video"]
    if kinds:
        return f"it is {kinds[0]}; expected JPEG, PNG, WebP or BMP"
    what = describe_head(head)
    return f"it {what}" if what else ""


def _is_whole(image: Image.Image, file: BinaryIO, size: int) -> bool:
    """The file ends as its format does: cheap to see, and never true of one that was cut off.

    (But by chance: a byte in 65,536 of a JPEG's looks like its end.)
    """
    place = file.tell()  # which Pillow relies on
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    file.seek(place)
    if image.format in ("JPEG", "MPO"):
        return tail.rstrip(b"\0\r\n ").endswith(_JPEG_END)
    if image.format == "PNG":
        return _PNG_END in tail
    return image.format == "WEBP"  # read whole; a BMP has no end, and is decoded at once
