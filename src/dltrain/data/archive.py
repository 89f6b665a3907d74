"""The files of a published tar.gz, and nothing else that it may hold."""

import errno
import gzip
import io
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dltrain.data.files import naming, open_file, printable, refuse

_MAX_MEMBERS = 100  # the published ones have fewer than 10
_MAX_HEADERS = 256 << 10
_PIECE = 1 << 18


class _TooMuchError(Exception):
    """The archive wants more than is given: memory, room or time."""


class _Bounded(io.RawIOBase):
    """What gzip yields, forwards, up to a limit: a bomb stays folded.

    tarfile trusts the sizes that it reads: it would take names and tables of any length into
    memory, inflate what it passes over however long that is, and go back and forth for ever.
    """

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._budget = _MAX_HEADERS

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self.tell():
            raise tarfile.ReadError("it points back into itself")
        self._check(offset)
        return self._stream.seek(offset)

    def read(self, size: int = -1) -> bytes:
        self._budget -= size
        if size < 0 or self._budget < 0:
            raise _TooMuchError(f"it has headers of more than {_MAX_HEADERS:,} bytes")
        piece = self._stream.read(size)
        self._check(self.tell())
        return piece

    def expect(self, num_bytes: int) -> None:
        """Data follows: its reading is not taken from what there is for headers."""
        self._check(self.tell() + num_bytes)
        self._budget += num_bytes

    def read_end(self) -> None:
        """To the checksum of gzip, which lies behind the end."""
        while self._stream.read(_PIECE):
            self._check(self.tell())

    def _check(self, offset: int) -> None:
        if offset > self._limit:
            raise _TooMuchError(f"it unpacks to more than {self._limit:,} bytes")


@contextmanager
def extracted(
    path: Path, folder_name: str, file_names: Collection[str], *, max_bytes: int
) -> Iterator[Path]:
    """A temporary folder_name with those of its files that are asked for.

    If nothing fails in the body, the folder is kept beside the archive; it appears there whole or
    not at all. Other members are passed over, links and devices among them. Raises ValueError for
    an archive that is damaged, that lacks the folder, or that unpacks to more than max_bytes.
    """
    target = path.parent / folder_name
    with (
        open_file(path) as file,
        _folder_beside(path, folder_name) as temporary,
    ):
        folder = Path(temporary) / folder_name
        folder.mkdir()
        try:
            _extract_into(folder, file, file_names, max_bytes)
        except _TooMuchError as error:
            refuse(path, str(error), f"files of {folder_name}")
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
            refuse(path, f"it is damaged ({printable(str(error))})", "an intact tar.gz")
        if not any(folder.iterdir()):
            refuse(path, f"it has no files of {folder_name}", ", ".join(file_names))
        try:
            yield folder
        except (ValueError, FileNotFoundError) as error:  # of a file in a folder that will be gone
            raise type(error)(str(error).replace(temporary, str(path))) from error
        try:
            os.replace(folder, target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise


def _folder_beside(path: Path, name: str) -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix=f".{name}.", dir=path.parent)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise ValueError(
            f"{path}: it cannot be unpacked, for its folder may not be written; expected one that "
            f"may, or {name} in it. Unpack it elsewhere, and say where with dataset.root"
        ) from error


def _extract_into(
    folder: Path, file: BinaryIO, file_names: Collection[str], max_bytes: int
) -> None:
    wanted = {f"{folder.name}/{name}": name for name in file_names}
    with gzip.GzipFile(fileobj=file) as unzipped:
        stream = _Bounded(unzipped, max_bytes)
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for number, member in enumerate(archive):
                if number == _MAX_MEMBERS:
                    raise _TooMuchError(f"it has more than {_MAX_MEMBERS:,} members")
                name = wanted.get(member.name.removeprefix("./"))
                if name is not None and member.isreg():
                    if member.issparse():
                        raise tarfile.ReadError(f"its {name} is a sparse file")
                    stream.expect(member.size)
                    _write(archive, member, folder / name)
        stream.read_end()


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Only the bytes: not by extract(), which would also set what the archive says of the file."""
    if path.exists():
        raise tarfile.ReadError(f"it has {path.name} twice")
    source = archive.extractfile(member)
    assert source is not None
    needed = f"{path.name} has {member.size:,} bytes"
    with source, naming(path, needed), path.open("xb") as target:
        shutil.copyfileobj(source, target, _PIECE)
