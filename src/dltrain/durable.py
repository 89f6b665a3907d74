"""Files that are whole or not there, whatever ends the process or the power. Imports no package.

A rename is atomic, but neither it nor the data is on the disk before both were synced: the file
before it is renamed, the folder after.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO

from dltrain.errors import NO_SPACE, StorageError


def write_parts(path: Path, parts: Iterable[bytes | memoryview]) -> tuple[int, str]:
    """Writes and syncs a file; the size and SHA-256 of what was meant to be written."""
    digest, size = hashlib.sha256(), 0
    parts = list(parts)
    with naming(path, sum(map(len, parts))), new_file(path) as file:
        for part in parts:
            file.write(part)
            digest.update(part)
            size += len(part)
        file.flush()
        sync_file(file, path)
    return size, digest.hexdigest()


def new_file(path: Path) -> BinaryIO:
    """Open for writing in place of what had the name: never through a link that waits there."""
    path.unlink(missing_ok=True)
    return open(path, "xb")


def check_digest(path: Path, sha256: str | None) -> None:
    """Raises ValueError for another file than the one with that digest; None is of none known."""
    if sha256 is None:
        return
    with open(path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ValueError("it is not as training wrote it (SHA-256)")


def sync_file(file: IO[bytes], path: Path) -> None:
    """Makes durable what was written to `path`, and flushed."""
    if _waiting.batch is None:
        os.fsync(file.fileno())
    else:
        _waiting.batch.files[path] = path


def replace_text(path: Path, text: str, *, sync: bool = True) -> None:
    """As `replace_bytes`."""
    replace_bytes(path, text.encode(), sync=sync)


def replace_bytes(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Replaces the file whole: a reader sees the old one or the new one; and durably with `sync`.

    Without it, the power going may leave an empty file: for what can be done without.
    """
    temporary = temporary_name(path)
    try:
        if sync:
            write_parts(temporary, [content])
            replace(temporary, path)
            return
        with naming(path, len(content)), new_file(temporary) as file:
            file.write(content)
        if _waiting.batch is not None:
            _waiting.batch.files.pop(temporary, None)
            _waiting.batch.names.pop(path, None)  # this one is newer
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)
        temporary.unlink(missing_ok=True)  # a full disk leaves no half of a file behind
        raise


def replace(temporary: Path, path: Path) -> None:
    """Gives a file that `write_parts` has written its name, durably."""
    if _waiting.batch is not None:
        _waiting.batch.names[path] = temporary
        return
    os.replace(temporary, path)
    sync_folder(path.parent)


def temporary_name(path: Path) -> Path:
    """Where a file is written before it has its name; a killed process may leave it there."""
    return path.with_name(f".{path.name}.tmp")


def sync_folder(path: Path) -> None:
    """Makes the names in a folder durable; without it a rename may be lost with the power."""
    if _waiting.batch is not None:
        _waiting.batch.folders[path] = path
        return
    sync_path(path)


def sync_path(path: Path) -> None:
    with naming(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# ---------------------------------------------------------------------- many files at once

MAX_SYNCS = 16  # at a time: a file system's journal takes them together


@dataclass
class Batch:
    """What is to be synced, in the order in which it came: contents, then names, then folders."""

    files: dict[Path, Path] = field(default_factory=dict)
    names: dict[Path, Path] = field(default_factory=dict)  # final name -> temporary
    folders: dict[Path, Path] = field(default_factory=dict)

    def settle(self) -> None:
        with ThreadPoolExecutor(MAX_SYNCS) as pool:
            list(pool.map(sync_path, self.files))
            for path, temporary in self.names.items():
                with naming(path):
                    os.replace(temporary, path)
                self.folders[path.parent] = path.parent
            list(pool.map(sync_path, self.folders))


class _Waiting(threading.local):
    batch: Batch | None = None  # of this thread


_waiting = _Waiting()


@contextmanager
def synced_together() -> Iterator[None]:
    """What this thread writes within is durable at the end, and has its name only then.

    The promise is the same, whole or not there; a disk takes a hundred files at once in a tenth of
    the time that it takes for them one after another. What fails within undoes nothing.
    """
    assert _waiting.batch is None
    _waiting.batch = batch = Batch()
    try:
        yield
    finally:
        _waiting.batch = None
        batch.settle()


def remove(path: Path) -> None:
    """Removes a file, a link (not what it leads to), or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def irregular(path: Path) -> str | None:
    """What `path` is where it is neither a file nor a folder (`a link`); None where it is."""
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    return "a link" if stat.S_ISLNK(mode) else "a special file"


@contextmanager
def naming(path: Path, needed: int | None = None) -> Iterator[None]:
    """An OSError of writing, which knows only a number, gets the file's name and size in bytes."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        if needed is not None:
            error.add_note(f"{needed:,} bytes are needed")
        raise


def storage_error(error: OSError, needed: int | None = None) -> StorageError:
    """What to say when a disk is full, over quota, read-only or not ours; `needed` is in bytes."""
    where = f" {error.filename}" if error.filename else ""
    text = f"cannot write{where}: {error.strerror or error}"
    if error.errno in NO_SPACE:
        notes = getattr(error, "__notes__", [])[:1]
        sizes = [f"{needed:,} bytes are needed"] if needed else notes
        free = free_bytes(Path(error.filename or "."))
        sizes += [f"{free:,} are free"] if free is not None else []
        text += f" ({', '.join(sizes)})" if sizes else ""
        text += "\nmake room, or raise the quota or limit (ulimit -f)"
    return StorageError(text)


def free_bytes(path: Path) -> int | None:
    for place in (path, *path.parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return None
