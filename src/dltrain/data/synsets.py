"""The words of ImageNet's classes and the classes of its validation images, as published.

Two forms are known: the official development kit (meta.mat and a list of numbers) and Kaggle's
text files. Numbers and words are data of strangers: read within bounds, and never trusted.
"""

import os
import re
import struct
import zlib
from pathlib import Path

from dltrain.data.files import open_file, printable, refuse

_DEVKIT = ("ILSVRC2012_devkit_t12/data", "data", "")  # below root
TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
SOLUTION, WORDS = "LOC_val_solution.csv", "LOC_synset_mapping.txt"
_WNID = re.compile(r"n\d{8}")
_IMAGE = re.compile(r"ILSVRC2012_val_\d{8}")
_MAX_BYTES = 32 << 20  # the largest, Kaggle's, has 4 MB
_STRUCT, _CHAR = 2, 4  # classes of a MATLAB array
_COMPRESSED, _MATRIX = 15, 14
_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 9: "d"}


def class_words(root: Path) -> dict[str, str]:
    """In words, by WordNet id: `n01440764` is `tench`; nothing where no file says so."""
    if path := _find(root, (WORDS,)):
        lines = (line.partition(" ") for line in _lines(path))
        words = {wnid: words for wnid, _, words in lines if _WNID.fullmatch(wnid)}
    elif path := _find(root, _in_devkit(META)):
        words = {wnid: words for _, wnid, words in read_synsets(path)}
    else:
        return {}
    short = {wnid: printable(text.partition(",")[0].strip(), 60) for wnid, text in words.items()}
    named = list(short.values())
    twice = {name for name in named if named.count(name) > 1}  # a crane is a bird, and a machine
    return {wnid: f"{name} ({wnid})" if name in twice else name for wnid, name in short.items()}


def validation_classes(root: Path) -> dict[str, str] | None:
    """The WordNet id by the name of each validation image without its suffix; None: no file."""
    if path := _find(root, (SOLUTION,)):
        rows = (line.partition(",") for line in _lines(path))
        found = {name: rest[:9] for name, _, rest in rows if _IMAGE.fullmatch(name)}
        bad = [wnid for wnid in found.values() if not _WNID.fullmatch(wnid)]
        if bad or not found:
            refuse(path, "it has no lines of image and class", "ILSVRC2012_val_00000001,n01751748")
        return found
    truth, meta = _find(root, _in_devkit(TRUTH)), _find(root, _in_devkit(META))
    if truth is None or meta is None:
        return None
    by_number = {number: wnid for number, wnid, _ in read_synsets(meta)}
    found = {}
    for place, line in enumerate(_lines(truth), start=1):
        wnid = by_number.get(int(line)) if line.isascii() and line.isdigit() else None
        if wnid is None:
            refuse(truth, f"its line {place} is {printable(line, 20)!r}", f"a number of {META}")
        found[f"ILSVRC2012_val_{place:08}"] = wnid
    return found


def _in_devkit(name: str) -> tuple[str, ...]:
    return tuple(os.path.join(folder, name) for folder in _DEVKIT)


def _find(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if os.path.lexists(root / name)), None)


def _lines(path: Path) -> list[str]:
    text = _read(path).decode("utf-8", "replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _read(path: Path) -> bytes:
    with open_file(path) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        refuse(path, f"it has more than {_MAX_BYTES:,} bytes", "a list of ImageNet's")
    return data


# ---------------------------------------------------------------------- meta.mat


def read_synsets(path: Path) -> list[tuple[int, str, str]]:
    """(ILSVRC2012_ID, WNID, words) of every synset of a development kit's meta.mat.

    Format: as in mat5.py; `synsets` is an array of structs.
    """
    expected = "the meta.mat of ILSVRC2012_devkit_t12"
    try:
        fields = _Part(_synsets(_read(path))).structs()
        rows = list(zip(fields["ILSVRC2012_ID"], fields["WNID"], fields["words"], strict=True))
    except KeyError as error:
        refuse(path, f"its synsets have no {error}", expected)
    except (struct.error, zlib.error, ValueError, UnicodeError) as error:
        refuse(path, f"it is damaged ({printable(str(error))})", expected)
    checked = [
        (number, wnid, words)
        for number, wnid, words in rows
        if isinstance(number, int) and isinstance(wnid, str) and isinstance(words, str)
    ]
    if len(checked) != len(rows) or not all(_WNID.fullmatch(wnid) for _, wnid, _ in checked):
        refuse(path, "its synsets are not numbers, WordNet ids and words", expected)
    return checked


def _synsets(data: bytes) -> bytes:
    """What the matrix named synsets holds, decompressed."""
    if data[124:128] != b"\x00\x01IM":
        raise ValueError("it does not begin as a MATLAB 5 file does")
    begin = 128
    while begin < len(data):
        kind, size = struct.unpack_from("<II", data, begin)
        body = data[begin + 8 : begin + 8 + size]
        begin += 8 + size
        if kind == _COMPRESSED:
            inflater = zlib.decompressobj()
            body = inflater.decompress(body, _MAX_BYTES)
            if not inflater.eof:  # its checksum, behind the last byte, has not been compared
                raise ValueError(f"its compression has no end within {_MAX_BYTES:,} bytes")
            kind, size = struct.unpack_from("<II", body)
            body = body[8 : 8 + size]
        if kind == _MATRIX and _Part(body).header()[2] == "synsets":
            return body
    raise ValueError("it has no variable synsets")


class _Part:
    """The parts of a matrix, one after another; each begins at a multiple of 8 bytes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def next(self) -> tuple[int, bytes]:
        """Type and bytes."""
        kind, size = struct.unpack_from("<II", self._data, self._at)
        if kind >> 16:  # up to 4 bytes, packed into the tag
            kind, size, begin, end = kind & 0xFFFF, kind >> 16, self._at + 4, self._at + 8
        else:
            begin = self._at + 8
            end = begin + size + -size % 8
        if begin + size > min(len(self._data), end):
            raise ValueError("it ends too early")
        self._at = end
        return kind, self._data[begin : begin + size]

    def header(self) -> tuple[int, int, str]:
        """Class, number of elements, name."""
        flags = struct.unpack_from("<I", self.next()[1])[0]
        dimensions = self.next()[1]
        count = 1
        for (size,) in struct.iter_unpack("<i", dimensions):
            count *= size
        return flags & 0xFF, count, self.next()[1].decode("ascii")

    def structs(self) -> dict[str, list[int | str | None]]:
        """The values of an array of structs, by field; None for what is no number and no text."""
        kind, count, _ = self.header()
        if kind != _STRUCT:
            raise ValueError("its synsets are no structs")
        (length,) = struct.unpack("<i", self.next()[1])
        packed = self.next()[1]
        if not 0 < length <= 64 or not 0 <= count <= 100_000:
            raise ValueError(f"{count:,} synsets with names of {length} bytes")
        names = [packed[at : at + length] for at in range(0, len(packed), length)]
        fields = [name.partition(b"\0")[0].decode("ascii") for name in names]
        found: dict[str, list[int | str | None]] = {name: [] for name in fields}
        for _ in range(count):
            for name in fields:
                found[name].append(_Part(self.next()[1])._value())
        return found

    def _value(self) -> int | str | None:
        if not self._data:
            return None
        kind, count, _ = self.header()
        if kind == _CHAR:
            stored, text = self.next()
            return text.decode("utf-16-le" if stored in (4, 17) else "utf-8")
        if count != 1 or not 6 <= kind <= 13:
            return None
        stored, number = self.next()
        (value,) = struct.unpack(f"<{_NUMBERS[stored]}", number) if stored in _NUMBERS else (None,)
        return int(value) if value is not None and value == int(value) else None
