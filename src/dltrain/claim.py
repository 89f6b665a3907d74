"""A run's directory for one process alone: taken before anybody writes there. Knows no torch."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from dltrain import runs
from dltrain.durable import remove, storage_error, sync_folder
from dltrain.errors import NO_SPACE, UserError

MAX_TRIES = 100  # others that claim the same name come and go within microseconds
MAX_WAIT_SEC, PAUSE_SEC = 0.05, 0.002  # for one that only looks: see `is_held`


class Claim:
    """A run's directory, locked for as long as this is open.

    One that is there is locked at once. One that is not is made and removed again, so that what
    stands against it is known at once, and made to stay by `take`: a run that is killed before it
    has anything to write leaves nothing. The lock is on the directory itself, so that it writes
    nothing into it. Leaving removes the directories that were made, if they are still empty.
    """

    def __init__(
        self, path: Path, *, fresh: bool = False, what: str = "the run's directory"
    ) -> None:
        self.what = what
        self.wanted = self.path = path
        self.fresh = fresh  # where the name is taken, it gets a suffix
        self.made: list[Path] = []
        self.descriptor: int | None = None  # open and locked

    @property
    def is_new(self) -> bool:
        """Nobody has taken the directory yet."""
        return self.descriptor is None

    def take(self) -> Path:
        """The directory, made if need be; UserError where somebody was faster."""
        if self.is_new:
            self.make_and_lock()
            if runs.holds_run(self.path):
                raise UserError(f"{self.path} holds a run already, which began just now")
            for path in self.made:
                sync_folder(path.parent)
        return self.path

    def make(self) -> None:
        for parent in reversed([p for p in self.path.parents if not p.exists()]):
            parent.mkdir(exist_ok=True)
            self.made.append(parent)
        name, number = self.path.name, 2
        while self.fresh and self.path.exists():
            self.path, number = self.path.with_name(f"{name}_{number}"), number + 1
        try:
            self.path.mkdir(exist_ok=False)
            self.made.append(self.path)
        except FileExistsError:
            if self.fresh:  # somebody else was faster
                self.make()
            elif self.path.exists() and not self.path.is_dir():
                raise NotADirectoryError(20, "it is a file") from None

    def __enter__(self) -> Claim:
        self.make_and_lock()
        if self.made:
            self.release()
            self.path = self.wanted
        return self

    def make_and_lock(self) -> None:
        try:
            for tries_left in reversed(range(MAX_TRIES)):
                try:
                    self.make()
                    self.descriptor = lock(self.path)
                except FileNotFoundError:  # somebody who only tried has just removed it
                    if not tries_left:
                        raise
                if self.descriptor is not None:
                    break
        except OSError as error:
            self.remove_made()
            if error.errno in NO_SPACE:
                raise storage_error(error) from None
            raise UserError(
                f"{self.what} {self.path} cannot be used: {error.strerror}"
                + (f" ({error.filename})" if error.filename else "")
            ) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        if self.descriptor is None:
            return  # what is there is somebody else's
        self.remove_made()
        os.close(self.descriptor)
        self.descriptor = None

    def remove_made(self) -> None:
        for path in reversed(self.made):
            try:
                path.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                break  # not empty: it has become a run
        self.made = []


def describe(path: Path) -> str:
    """Which process writes there, as far as its record tells."""
    record = runs.read_if_whole(path / runs.RECORD)
    newest = record.get("resumed", [record])[-1] if record else {}
    pid = newest.get("pid") if isinstance(newest, dict) else None
    alive = isinstance(pid, int) and Path(f"/proc/{pid}").exists()  # or it has only just begun
    return f" (pid {pid})" if alive and newest.get("host") == os.uname().nodename else ""


def is_held(path: Path) -> bool:
    """Whether a process trains in the directory just now. Nothing is written.

    A shared lock for some microseconds: who wants the directory then waits until they are over.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return True  # a file system without locks: nobody can tell, and the summary says `running`
    finally:
        os.close(descriptor)
    return False


def lock(path: Path) -> int | None:
    """A descriptor of the directory, locked; None where `path` is another directory by now.

    Raises UserError where somebody else holds the lock, and OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    if not os.access(path, os.W_OK | os.X_OK):
        os.close(descriptor)
        raise PermissionError(13, "Permission denied")
    try:
        lock_soon(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"{path} is in use by another dltrain process{describe(path)}") from None
    except OSError:
        return descriptor  # a file system without locks: nothing to hold, and no reason to stop
    try:
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except FileNotFoundError:
        pass  # removed, by one who had only tried whether it could be made
    os.close(descriptor)
    return None


def lock_soon(descriptor: int) -> None:
    """Raises BlockingIOError where somebody holds it for longer than it takes to look."""
    until = time.monotonic() + MAX_WAIT_SEC
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
        time.sleep(PAUSE_SEC)


# ---------------------------------------------------------------------- folders of results

OLD = ".old.tmp"  # behind the name of a folder whose successor is about to take its place


@contextmanager
def writing_to(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """A folder of a run's results, made if need be, while something is written into it.

    Waits for whoever writes there; with `shared` several write at once, under names of their own.
    What a killed process has left there, `.*.tmp`, is removed as soon as nobody writes.
    """
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if locked(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if shared else 0)):
            clear_results(folder)
        if shared:
            locked(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def locked(descriptor: int, operation: int) -> bool:
    """False where somebody else writes, or on a file system without locks: nobody can tell."""
    with suppress(OSError):
        fcntl.flock(descriptor, operation)
        return True
    return False


def clear_results(folder: Path) -> None:
    for leftover in folder.glob(".*.tmp"):
        name = leftover.name[1:].removesuffix(OLD)
        if leftover.name.endswith(OLD) and not os.path.lexists(folder / name):
            leftover.rename(folder / name)  # killed before its successor had the name
        else:
            remove(leftover)
