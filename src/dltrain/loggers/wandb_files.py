"""How far a run's offline files of W&B go: a killed run's lack what its process still held."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dltrain import plain

# LevelDB's log format behind a head of W&B's: blocks of records, which may be in parts
FILE_HEAD, BLOCK = 7, 32 << 10
RECORD_HEAD = struct.Struct("<IHB")  # checksum, length, kind
WHOLE, LAST = 1, 4
MAX_RECORD = 64 << 20
STILL_SEC, MAX_WAIT_SEC = 2.0, 10.0


def newest_step(run_dir: Path, run_id: str) -> int:
    """The last step of which they hold a row; -1 where they hold none.

    Raises OSError, ValueError, and protobuf's DecodeError for what is no such file.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    newest = -1
    for path in run_dir.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"):
        wait_until_still(path)
        with plain.open_regular(path) as file:
            for data in records(file):
                record = Record.FromString(data)
                if record.WhichOneof("record_type") == "history":
                    newest = max(newest, record.history.step.num)
    return newest


def wait_until_still(path: Path) -> None:
    """W&B's own process may outlive a killed run by a moment, and write what it still has."""
    end = time.monotonic() + MAX_WAIT_SEC
    while abs(time.time() - path.lstat().st_mtime) < STILL_SEC and time.monotonic() < end:
        time.sleep(0.1)


def records(file: BinaryIO) -> Iterator[bytes]:
    """Each record that is there whole; none behind what is torn."""
    place, parts = FILE_HEAD, b""
    file.seek(place)
    while True:
        left = BLOCK - place % BLOCK
        if left < RECORD_HEAD.size:
            file.seek(left, 1)
            place += left
        head = file.read(RECORD_HEAD.size)
        if len(head) < RECORD_HEAD.size:
            return
        _, length, kind = RECORD_HEAD.unpack(head)
        data = file.read(length)
        if not kind or len(data) < length or len(parts) > MAX_RECORD:
            return
        place += len(head) + length
        parts += data
        if kind in (WHOLE, LAST):
            yield parts
            parts = b""
