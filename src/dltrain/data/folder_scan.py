"""A tree of image files by class: found in a fixed order, links followed, dead ends named.

Names are bytes here, as they are on the disk: no locale has a say, and none is too odd.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from dltrain.data.files import printable
from dltrain.data.listing import Names

SUFFIXES = frozenset((b"jpg", b"jpeg", b"png", b"webp", b"bmp"))  # in any case
MAX_DEPTH = 64  # folders within a class
_LITTER = frozenset((b"__MACOSX", b"@eaDir", b"lost+found", b"System Volume Information"))
_NO_FILE = -1  # in num_bytes: a link to nothing, or it may not be looked at


Seen = dict[tuple[int, int], bytes]  # what a folder is to the file system, and a path to it


@dataclass(frozen=True)
class Files:
    """What may be images, sorted by class and name. int64 [N] each but the names."""

    names: Names
    targets: np.ndarray
    num_bytes: np.ndarray
    mtime_ns: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


def joined(parts: Sequence[Files]) -> Files:
    """One after another."""
    names = Names.joined([each.names for each in parts])
    columns = zip(*((each.targets, each.num_bytes, each.mtime_ns) for each in parts), strict=True)
    return Files(names, *map(np.concatenate, columns))


@dataclass
class Scan:
    """One split on the disk, or one tree: its classes in order, their files, what was left out."""

    classes: list[bytes]
    files: Files
    num_left_out: int


@dataclass
class _Walk:
    """What one walk has seen. A folder that is reached twice would count twice, or never end."""

    root: bytes
    folders: Seen
    num_left_out: int = 0


def scan_classes(
    root: bytes, within: bytes = b"", *, empty_is_error: bool = True, seen: Seen | None = None
) -> Scan:
    """The images of root/within/CLASS/**; names are relative to root.

    seen: the folders of other splits, of which none may be reached again; those of this join them.

    Raises ValueError for what is not such a tree: path, what was found, what was expected.
    """
    walk = _Walk(root, {} if seen is None else seen)
    top = os.path.join(root, within)
    classes, beside = _top(walk, top)
    if beside or not classes:
        _refuse_top(top, classes, beside)
    found = [
        _pack(_files_of(walk, os.path.join(within, name)), target)
        for target, name in enumerate(classes)
    ]
    empty = [name for name, files in zip(classes, found, strict=True) if not len(files)]
    if empty and empty_is_error:
        raise ValueError(
            f"{shown(top)}: class folders without an image: {some(empty)}\n"
            "expected .jpg, .jpeg, .png, .webp or .bmp files in each; take these folders away, or "
            "fill them"
        )
    return Scan(classes, joined(found), walk.num_left_out)


def scan_flat(root: bytes, within: bytes) -> Files:
    """The images that lie in root/within itself; all their targets are 0."""
    path = os.path.join(root, within)
    found = [
        (os.path.join(within, entry.name), *_stat(entry))
        for entry in _entries(path)
        if _is_image(entry.name) and not _is_folder(entry)
    ]
    return _pack(sorted(found), 0)


def class_folders(path: bytes) -> list[bytes]:
    """The names of the folders in path that may be classes, sorted; no file is looked at."""
    return sorted(entry.name for entry in _entries(path) if _is_class(entry))


def has_images(path: bytes) -> bool:
    return any(_is_image(entry.name) for entry in _entries(path))


def _top(walk: _Walk, path: bytes) -> tuple[list[bytes], list[bytes]]:
    """Class folders and images beside them, sorted."""
    _check_first_visit(walk, path, 0)
    classes, beside = [], []
    for entry in _entries(path):
        if _is_class(entry):
            classes.append(entry.name)
        elif _is_image(entry.name):
            beside.append(entry.name)
        else:
            _check_link(entry)
            walk.num_left_out += 1
    return sorted(classes), sorted(beside)


def _refuse_top(path: bytes, classes: list[bytes], beside: list[bytes]) -> NoReturn:
    if classes:
        raise ValueError(
            f"{shown(path)}: {len(beside):,} images beside the class folders: {some(beside)}\n"
            "expected every image in the folder of its class; move them into one, or elsewhere"
        )
    found = f"{len(beside):,} images and no class folder" if beside else "no class folder"
    raise ValueError(
        f"{shown(path)}: {found}\n"
        "expected one folder for each class, with its images in it; is dataset.root right?"
    )


def _files_of(walk: _Walk, within: bytes) -> list[tuple[bytes, int, int]]:
    """(name below root, bytes, time) of all images of a class, sorted by name."""
    found, folders = [], [(within, 0)]
    while folders:
        folder, depth = folders.pop()
        path = os.path.join(walk.root, folder)
        _check_first_visit(walk, path, depth)
        for entry in _entries(path):
            if not _is_hidden(entry.name) and _is_folder(entry):
                folders.append((os.path.join(folder, entry.name), depth + 1))
            elif _is_image(entry.name):
                found.append((os.path.join(folder, entry.name), *_stat(entry)))
            else:
                _check_link(entry)
                walk.num_left_out += 1
    return sorted(found)


def _check_first_visit(walk: _Walk, path: bytes, depth: int) -> None:
    """Also the end of links that lead to where the walk comes from, and of their multiplication."""
    if depth > MAX_DEPTH:
        raise ValueError(
            f"{shown(path)}: nested more than {MAX_DEPTH} deep; expected fewer folders"
        )
    other = walk.folders.setdefault(_identity(path), path)
    if other == path:
        return
    link = path
    while not os.path.islink(link) and len(link) > len(walk.root):
        link = os.path.dirname(link)
    if path.startswith(os.path.join(other, b"")):
        what = f"a link back to {shown(other)}, around which there is no end"
    else:
        what = f"the same folder as {shown(other)}; its images would count twice"
    raise ValueError(f"{shown(link)}: it leads to {what}\nexpected every folder once; remove it")


def _entries(path: bytes) -> Iterator[os.DirEntry[bytes]]:
    try:
        with os.scandir(path) as entries:
            yield from entries
    except PermissionError as error:
        raise ValueError(
            f"{shown(path)}: you may not read it; expected a folder that you may"
        ) from error
    except OSError as error:
        raise ValueError(
            f"{shown(path)}: it cannot be read ({error.strerror}); expected a folder"
        ) from error


def _identity(path: bytes) -> tuple[int, int]:
    try:
        seen = os.stat(path)
    except OSError as error:
        raise ValueError(f"{shown(path)}: it cannot be read ({error.strerror})") from error
    return seen.st_dev, seen.st_ino


def _stat(entry: os.DirEntry[bytes]) -> tuple[int, int]:
    try:
        seen = entry.stat()
    except OSError:  # the check of its header says why
        return _NO_FILE, 0
    return seen.st_size, seen.st_mtime_ns


def _is_hidden(name: bytes) -> bool:
    return name.startswith(b".") or name in _LITTER


def _is_class(entry: os.DirEntry[bytes]) -> bool:
    return not _is_hidden(entry.name) and _is_folder(entry)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_image(name: bytes) -> bool:
    _, dot, suffix = name.rpartition(b".")
    return bool(dot) and suffix.lower() in SUFFIXES and not name.startswith(b".")


def _check_link(entry: os.DirEntry[bytes]) -> None:
    """A dead link that has no suffix was a folder, perhaps: a whole class would be missing."""
    dead = entry.is_symlink() and not os.path.exists(entry.path)
    if dead and not _is_hidden(entry.name) and b"." not in entry.name:
        raise ValueError(
            f"{shown(entry.path)}: it is a link to nothing; expected a folder\n"
            "remove the link, or bring back what it points to"
        )


def _pack(rows: list[tuple[bytes, int, int]], target: int) -> Files:
    numbers = np.array([row[1:] for row in rows], np.int64).reshape(-1, 2)
    names = Names.of(row[0] for row in rows)
    targets = np.full(len(rows), target, np.int64)
    return Files(names, targets, numbers[:, 0].copy(), numbers[:, 1].copy())


def shown(path: bytes, limit: int = 200) -> str:
    """For a message: on one line, whatever the name holds."""
    return printable(os.fsdecode(path), limit)


def some(names: list[bytes], limit: int = 5) -> str:
    """The first few of them."""
    listed = ", ".join(shown(name, 60) for name in names[:limit])
    return listed + (f" and {len(names) - limit:,} more" if len(names) > limit else "")
