"""Damages that any file can suffer, and what only looks like a file: for the tables of cases."""

import bz2
import gzip
import io
import lzma
import os
import random
import socket
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HTML = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body></body></html>\n"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 9912422\n" % (b"0" * 64)
JSON = b'{"error": {"code": 403, "message": "Access Denied"}}\n'


class Case(NamedTuple):
    """A data set that cannot be read: `make` writes it below a root that does not exist yet."""

    dataset: str
    make: Callable[[Path], object]
    found: str  # what the message says, a regular expression
    at: str = ""  # what it names, below the root


def zip_bytes(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", content)
    return file.getvalue()


def tar_bytes(*members: tuple[str, bytes] | tarfile.TarInfo, mode: str = "w:gz") -> bytes:
    """An archive of files, (name, content), and of anything else as a TarInfo."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return file.getvalue()


def replaced(good: bytes) -> dict[str, bytes]:
    """Something else in the place of the data."""
    return {
        "nothing": b"",
        "web page": HTML,
        "LFS pointer": LFS,
        "JSON": JSON,
        "zip": zip_bytes(good),
        "tar": tar_bytes(("data", good), mode="w:"),
        "bz2": bz2.compress(good),
        "xz": lzma.compress(good),
        "zeros": bytes(len(good) + 1),
        "ones": b"\xff" * (len(good) + 1),
        "noise": random.Random(0).randbytes(5000),
        "text": b"label,pixel\n1,2\n" * 300,
    }


def cut(good: bytes, *places: int) -> dict[str, bytes]:
    """The beginning of a file up to each place, and files that go on after their end."""
    cuts = {f"{len(good[:place])} bytes": good[:place] for place in places}
    longer = {"a byte more": b"\0", "a line more": b"\n", "twice": good, "with more": b"more" * 300}
    return cuts | {name: good + more for name, more in longer.items()}


def gzip_bomb(head: bytes, num_bytes: int) -> bytes:
    """head and num_bytes zeros, a thousandth of that long; its checksum is wrong."""
    piece = 4 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(piece)) + packer.flush(zlib.Z_FULL_FLUSH)
    start = gzip.compress(b"")[:10]
    return start + first + block * (num_bytes // piece) + packer.flush() + bytes(8)


def damaged_gzip(good: bytes) -> dict[str, bytes]:
    """Of a gzip file: bits flipped in each of its parts, and ends in the wrong place."""

    def flip(at: int) -> bytes:
        return good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :]

    return {
        "cut in its header": good[:6],
        "cut in half": good[: len(good) // 2],
        "without a trailer": good[:-8],
        "cut by a byte": good[:-1],
        "flipped bit in the method": flip(2),
        "flipped bit at a third": flip(len(good) // 3),
        "flipped bit in the middle": flip(len(good) // 2),
        "flipped bit in the checksum": flip(len(good) - 8),
        "flipped bit in the length": flip(len(good) - 1),
        "garbage after it": good + b"garbage",
    }


def socket_at(path: Path) -> None:
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short}/s")  # the name of a socket may have 100 bytes
        os.rename(f"{short}/s", path)


# What may stand where a file should be, and what is said of it
NO_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (Path.mkdir, "it is a folder; expected a regular file"),
    "pipe": (os.mkfifo, "it is a pipe; expected a regular file"),
    "socket": (socket_at, "it is a socket; expected a regular file"),
    "endless device": (lambda p: p.symlink_to("/dev/zero"), "it is a device; expected a regular"),
    "empty device": (lambda p: p.symlink_to("/dev/null"), "it is a device; expected a regular"),
    "link to nothing": (lambda p: p.symlink_to("gone"), "it is a link to nothing; expected a"),
    "link to itself": (lambda p: p.symlink_to(p), "it is a link to nothing; expected a"),
    "file of a process": (lambda p: p.symlink_to("/proc/self/mem"), "expected"),
}
