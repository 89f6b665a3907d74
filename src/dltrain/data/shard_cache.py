"""Shards that lie elsewhere: fetched when they are needed, into a folder that has a limit.

Any number of processes and runs may share the folder. Locks are the kernel's (flock): a process
that is killed holds none. A file with its final name is whole.
"""

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dltrain.data.files import naming, printable
from dltrain.data.shards import Shard

Fetch = Callable[[str, Path], None]  # the name of a file of the set, and where to put it

_NUM_LOCKS = 64  # shards that share one are not fetched at once, and nothing worse
_TRIES, _PAUSE_SEC = 3, 1.0
_STALE_SEC = 3600  # after this a part belongs to nobody
_PIECE = 1 << 20
# Of the files that are ours in the folder: others are neither counted nor removed
_OURS = re.compile(r"[0-9a-f]{16}-.+")


def default_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "dltrain" / "shards"


class ShardCache:
    """The shards of one index in `folder`, which holds `limit` bytes of any sets.

    What is being fetched may come on top, as may a shard that is larger than the limit.

    identity: of the set, 16 hexadecimal digits in the names of its files, so that sets do not mix.
    """

    def __init__(self, fetch: Fetch, folder: Path, *, limit: int, identity: str) -> None:
        assert _OURS.fullmatch(f"{identity}-x"), identity
        self._fetch, self.folder, self._limit, self._identity = fetch, folder, limit, identity

    def open_shard(self, shard: Shard) -> Path:
        """Where the shard is, whole; it may be taken away as soon as others need the room.

        Raises ValueError where it cannot be had, or is not what the index says.
        """
        path = self.folder / f"{self._identity}-{shard.name}"
        try:
            os.utime(path)  # used just now: others go first
        except FileNotFoundError:
            self._bring(shard, path)
        except PermissionError:  # somebody else's: it may be read
            pass
        return path

    def _bring(self, shard: Shard, path: Path) -> None:
        number = int.from_bytes(hashlib.blake2b(path.name.encode(), digest_size=1).digest(), "big")
        with self._locked(f"{number % _NUM_LOCKS:02}"):
            if path.exists():  # another process was faster
                return
            part = path.with_name(f"{path.name}.part")
            for left in reversed(range(_TRIES)):
                try:
                    self._bring_once(shard, part)
                    os.replace(part, path)
                    return
                except Exception as error:
                    part.unlink(missing_ok=True)
                    if not left or isinstance(error, PermissionError):
                        raise
                    time.sleep(_PAUSE_SEC)

    def _bring_once(self, shard: Shard, part: Path) -> None:
        with self._locked("room"):
            self._make_room(shard.num_bytes)
        try:
            with naming(part, f"{shard.name} has {shard.num_bytes:,} bytes"):
                self._fetch(shard.name, part)
        except OSError:
            raise
        except Exception as error:  # each service has its own
            reason = printable(f"{type(error).__name__}: {error}", 300)
            raise ValueError(f"{shard.name} cannot be fetched: {reason}") from error
        _verify(part, shard)

    def _make_room(self, num_bytes: int) -> None:
        """Removes what was not used for the longest time, until num_bytes more are allowed."""
        files = []
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):
                if _OURS.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    files.append((entry.stat(follow_symlinks=False), entry.path))
        total = sum(stat.st_size for stat, _ in files) + num_bytes
        for stat, path in sorted(files, key=lambda file: file[0].st_mtime):
            if total <= self._limit:
                return
            if path.endswith(".part") and time.time() - stat.st_mtime < _STALE_SEC:
                continue
            Path(path).unlink(missing_ok=True)
            total -= stat.st_size

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / name).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
            yield


def _verify(part: Path, shard: Shard) -> None:
    found = part.stat().st_size
    if found != shard.num_bytes:
        raise ValueError(f"{shard.name} came with {found:,} of its {shard.num_bytes:,} bytes")
    if not shard.checksum:
        return
    algorithm, _, expected = shard.checksum.partition(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with part.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    if digest.hexdigest() != expected.lower():
        raise ValueError(
            f"{shard.name} came damaged: its {algorithm} is {digest.hexdigest()}, and should be "
            f"{printable(expected, 130)}"
        )
