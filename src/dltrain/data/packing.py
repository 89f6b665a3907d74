"""Writes a packed set: images of any `Pictures`, read in parallel, each put into its place.

All places are known before the first image is read. So readers write by themselves, in any order,
and this process has only to follow them with the digest. A shard gets its name when it is complete
and on the disk, and is then recorded: whatever ends this, what is recorded is kept.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dltrain.data.download import Progress
from dltrain.data.files import printable
from dltrain.data.packed_layout import ROW, Manifest
from dltrain.data.packed_record import Record, finish
from dltrain.data.packing_plan import Plan, Shard
from dltrain.data.pictures import resize
from dltrain.data.workers import Readers
from dltrain.durable import naming, sync_folder, temporary_name

_AT_ONCE = 32  # images
_NUM_AHEAD = 4
_PIECE = 1 << 22
_UNREADABLE = -1


class Stopped(Exception):  # noqa: N818  # no error
    """A signal came; what is finished is kept."""


def pack(
    plan: Plan,
    root: Path,
    *,
    num_workers: int,
    skip: bool,
    progress: Progress | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Manifest:
    """Writes what is not there yet into the folder `root`, and the manifest last.

    skip: an image that cannot be read is left out; otherwise it is a ValueError that names it.
    Raises OSError where there is no room, WorkerError where a reader dies, Stopped where `stopped`.
    """
    record = Record.open(root, plan)
    for path in root.glob(".*.tmp"):  # of a process that was killed
        path.unlink()
    todo = [number for number, each in enumerate(plan.shards) if each.name not in record.files]
    _check_room(plan, root, todo)
    record.save()
    if plan.store == "uint8":
        import torch  # noqa: F401  # resizes: once, and not in every fork
    packer = _Packer(plan, root, record, skip=skip, num_workers=num_workers)
    total = len(plan.shard)
    done = total - sum(plan.shards[number].end - plan.shards[number].begin for number in todo)
    try:
        for count in packer.write(todo):
            done += count
            if progress is not None:
                progress("packing images", done, total)
            if stopped():
                raise Stopped
    finally:
        packer.close()
    return finish(plan, root, record)


def _check_room(plan: Plan, root: Path, todo: list[int]) -> None:
    """A disk that will be full is told of now, and not in an hour."""
    needed = sum(plan.shards[number].num_bytes for number in todo)
    needed += len(plan.shard) * (ROW.itemsize + 100)  # index and names
    free = shutil.disk_usage(root).free
    if needed > free:
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root))
        error.add_note(f"{needed:,} bytes are needed")
        raise error


@dataclass
class _File:
    """A shard that is being written: how far its digest is, and which images are left out."""

    shard: Shard
    path: Path  # its temporary name
    descriptor: int
    digest: Any = field(default_factory=hashlib.sha256)
    hashed: int = 0
    skipped: list[int] = field(default_factory=list)


class _Packer:
    """The process that has images put into shards, and completes these one after another."""

    def __init__(
        self, plan: Plan, root: Path, record: Record, *, skip: bool, num_workers: int
    ) -> None:
        self._plan, self._root, self._record, self._skip = plan, root, record, skip
        self._writer = _Writer(plan, root)
        self._readers = Readers(
            self._writer, batch_size=_AT_ONCE, num_ahead=_NUM_AHEAD, num_workers=num_workers
        )
        self._files: dict[int, _File] = {}  # of shards that are under way

    def write(self, todo: list[int]) -> Iterator[int]:
        """Writes these shards; yields how many images are done since it last did."""
        pieces = self._pieces(todo)
        piece = next(pieces, None)
        while piece or self._readers.asked:
            while piece and self._readers.has_room:
                self._ask(*piece)
                piece = next(pieces, None)
            (number, begin, end), _ = self._readers.asked[0]
            file = self._files[number]
            self._check(file, range(begin, end), self._readers.take())
            self._follow(file, end)
            if end == file.shard.end:
                self._complete(self._files.pop(number))
            yield end - begin

    def close(self) -> None:
        """Ends the readers; what is not complete is removed."""
        self._readers.close()
        self._writer.close()
        for file in self._files.values():
            os.close(file.descriptor)
            file.path.unlink(missing_ok=True)

    def _pieces(self, todo: list[int]) -> Iterator[tuple[int, int, int]]:
        for number in todo:
            shard = self._plan.shards[number]
            for begin in range(shard.begin, shard.end, _AT_ONCE):
                yield number, begin, min(begin + _AT_ONCE, shard.end)

    def _ask(self, number: int, begin: int, end: int) -> None:
        if number not in self._files:
            self._files[number] = self._create(self._plan.shards[number])
        self._readers.ask((number, begin, end), np.arange(begin, end)[:, None])

    def _create(self, shard: Shard) -> _File:
        """With all of its bytes: a disk that is full refuses now."""
        path = temporary_name(self._root / shard.name)
        with naming(path, shard.num_bytes):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                _allocate(descriptor, shard.num_bytes)
            except OSError:
                os.close(descriptor)
                path.unlink()
                raise
        return _File(shard, path, descriptor)

    def _check(self, file: _File, numbers: range, results: np.ndarray) -> None:
        """results: int64 [n, 2], see `_Writer`."""
        for number, (outcome, error) in zip(numbers, results.tolist(), strict=True):
            if error:
                raise OSError(error, os.strerror(error), str(file.path))
            if outcome != _UNREADABLE:
                continue
            if not self._skip:
                raise ValueError(
                    f"{printable(self._plan.describe(number), 200)} cannot be read: "
                    f"{self._writer.reason(number)}\n"
                    "mend it, or leave such images out with dataset.on_bad_image=skip"
                )
            file.skipped.append(number)

    def _follow(self, file: _File, end: int) -> None:
        """Takes the digest as far as all images before `end` are written."""
        last = end == file.shard.end
        until = file.shard.num_bytes if last else int(self._plan.offset[end])
        while file.hashed < until:
            piece = os.pread(file.descriptor, min(_PIECE, until - file.hashed), file.hashed)
            if not piece:
                raise OSError(errno.EIO, "it was cut off by somebody else", str(file.path))
            file.digest.update(piece)
            file.hashed += len(piece)

    def _complete(self, file: _File) -> None:
        with naming(file.path, file.shard.num_bytes):
            os.fsync(file.descriptor)
            os.close(file.descriptor)
            os.replace(file.path, self._root / file.shard.name)
        sync_folder(self._root)
        self._record.add(file.shard, file.digest.hexdigest(), file.skipped)


class _Writer:
    """A `Source` that puts an image into its shard.

    Its sample is what became of that: bytes written, or _UNREADABLE; and the error of the disk.
    """

    dtype, channels_last = np.dtype(np.int64), False
    shape: tuple[int, ...] = (2,)

    def __init__(self, plan: Plan, root: Path) -> None:
        self._plan, self._root = plan, root
        self._shard, self._descriptor = -1, -1  # that is open in this process

    def __len__(self) -> int:
        return len(self._plan.shard)

    def describe(self, index: int) -> str:
        return self._plan.describe(index)

    def read(self, index: int, out: np.ndarray, *box: int) -> None:
        out[:] = 0
        try:
            content = self._content(index)
        except (ValueError, OSError):
            out[0] = _UNREADABLE
            return
        try:
            out[0] = self._put(int(self._plan.shard[index]), content, int(self._plan.offset[index]))
        except OSError as error:
            out[1] = error.errno or errno.EIO

    def reason(self, index: int) -> str:
        """Why an image was not readable."""
        try:
            self._content(index)
        except (ValueError, OSError) as error:
            return printable(" ".join(str(error).split()), 200)
        return "it was not, a moment ago"

    def close(self) -> None:
        """For this process, where there are no workers."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._shard = self._descriptor = -1

    def _content(self, index: int) -> memoryview:
        """The bytes that belong into the shard."""
        part, place = self._plan.image(index)
        if self._plan.store == "files":
            content = memoryview(part.shelf.content(place))
        else:
            pixels = part.shelf.load(place, shrink=1, exact=True)
            if list(pixels.shape[:2]) != part.read_sizes[place].tolist():
                raise ValueError(
                    f"it has {pixels.shape[0]} x {pixels.shape[1]} pixels: it has changed"
                )
            stored = resize(pixels, *part.sizes[place].tolist())
            content = np.ascontiguousarray(stored).reshape(-1).data
        expected = int(self._plan.num_bytes[index])
        if len(content) != expected or not expected:
            raise ValueError(f"it has {len(content):,} bytes, not {expected:,}: it has changed")
        return content

    def _put(self, number: int, content: memoryview, offset: int) -> int:
        if number != self._shard:
            self.close()
            path = temporary_name(self._root / self._plan.shards[number].name)
            self._descriptor, self._shard = os.open(path, os.O_WRONLY), number
        done = 0
        while done < len(content):
            done += os.pwrite(self._descriptor, content[done:], offset + done)
        return done


def _allocate(descriptor: int, num_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, num_bytes)
            return
        except OSError as error:  # a file system that cannot
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
    os.ftruncate(descriptor, num_bytes)
