"""Where a set of files may lie: a folder, an http server, or a bucket (by mosaicml-streaming)."""

import importlib.util
import os
import re
import shutil
from pathlib import Path
from typing import Any

from dltrain.data.download import fetch

#: what mosaicml-streaming's downloaders take, by the beginning of the address
BUCKETS = ("s3", "gs", "oci", "azure", "azure-dl", "hf", "sftp", "dbfs")
_TIMEOUT_SEC = 300.0
EXTRA = "pip install 'dltrain[streaming]'"


class Remote:
    """Files below an address: `https://...`, or `s3://...` and the other BUCKETS.

    Raises ValueError for an address that cannot be read here.
    """

    def __init__(self, address: str, *, limit: int) -> None:
        """limit: bytes of the largest file that is taken."""
        scheme = scheme_of(address)
        if scheme not in ("http", "https", *BUCKETS):
            raise ValueError(
                f"dataset.root is {address}; it must be a folder, or begin with one of "
                f"{', '.join(f'{each}://' for each in ('https', *BUCKETS))}"
            )
        self._address, self._limit, self._scheme = address.rstrip("/"), limit, scheme
        self._downloader: tuple[int, Any] | None = None  # and the process that it belongs to
        if scheme in BUCKETS:
            _import_streaming(address)  # here rather than in every worker: it takes seconds

    def fetch(self, name: str, path: Path) -> None:
        """The file of that name below the address, into path. May raise anything."""
        url = f"{self._address}/{name}"
        if self._scheme in BUCKETS:
            path.unlink(missing_ok=True)
            self._bucket().download(url, str(path), _TIMEOUT_SEC)
        else:
            fetch(url, path, limit=self._limit)

    def _bucket(self) -> Any:
        """A client of this process: connections do not survive a fork."""
        if self._downloader is None or self._downloader[0] != os.getpid():
            storage = _import_streaming(self._address)
            self._downloader = os.getpid(), storage.CloudDownloader.get(self._address)
        return self._downloader[1]


class LocalCopy:
    """Files of a folder, as if they were far away: what a cache on a fast disk is filled from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, name: str, path: Path) -> None:
        shutil.copyfile(self._folder / name, path)


def scheme_of(address: str) -> str:
    """`s3` of `s3://...`; nothing for a folder."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", address)
    return match[1].lower() if match else ""


def _import_streaming(address: str) -> Any:
    if importlib.util.find_spec("streaming") is None:
        raise ValueError(
            f"dataset.root is {address}, which needs mosaicml-streaming; `{EXTRA}`, or choose a "
            "folder or an https address"
        )
    import streaming.base.storage as storage

    return storage
