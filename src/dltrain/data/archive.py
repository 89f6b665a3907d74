"""The files of a published tar.gz, and nothing else that it may hold."""

import gzip
import io
import os
import tarfile
import tempfile
import zlib
from collections.abc import Collection
from pathlib import Path

from dltrain.data.files import open_file, refuse


class _Bounded(io.RawIOBase):
    """What gzip yields, up to a limit: a bomb stops there."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream = stream
        self._left = limit

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(piece)
        if self._left < 0:
            raise OverflowError
        return piece


def extract(path: Path, folder_name: str, file_names: Collection[str], *, max_bytes: int) -> Path:
    """folder_name beside the archive, with those of its files that are asked for.

    Other members are passed over, links and devices among them. The folder appears whole or not at
    all. Raises ValueError for an archive that is damaged, that lacks the folder, or that unpacks to
    more than max_bytes.
    """
    target = path.parent / folder_name
    with tempfile.TemporaryDirectory(prefix=f".{folder_name}.", dir=path.parent) as temporary:
        try:
            found = _extract_into(Path(temporary), path, folder_name, file_names, max_bytes)
        except OverflowError:
            refuse(path, f"it unpacks to more than {max_bytes:,} bytes", f"files of {folder_name}")
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            refuse(path, f"it is damaged ({error})", "an intact tar.gz")
        if not found:
            refuse(path, f"it has no files of {folder_name}", ", ".join(file_names))
        try:
            os.replace(Path(temporary) / folder_name, target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    return target


def _extract_into(
    folder: Path, path: Path, folder_name: str, file_names: Collection[str], max_bytes: int
) -> bool:
    wanted = {f"{folder_name}/{name}" for name in file_names}
    with open_file(path) as file, gzip.GzipFile(fileobj=file) as unzipped:
        stream = _Bounded(unzipped, max_bytes)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name in wanted and member.isreg():
                    archive.extract(member, folder, filter="data")
    return (folder / folder_name).is_dir()
