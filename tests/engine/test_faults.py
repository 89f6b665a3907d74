"""Whatever fails in a save, and wherever it is killed, a good checkpoint is found afterwards."""

import builtins
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import torch

from dltrain import durable, runs
from dltrain.engine.checkpoint import by_value, read_checkpoint, steps_in
from dltrain.engine.saver import Saver
from dltrain.errors import StorageError

CALLS = ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "open")
NEED_ROOM = ("write", "fsync", "mkdir")


class KilledError(BaseException):
    """The process is gone: from here on nothing it calls has an effect."""


class Disk:
    """Counts what is done to the disk, and makes the one of number `fails_at` fail.

    kind: `error`, once; `full`, from then on whatever needs room; `killed`, everything.
    """

    def __init__(self, fails_at: int, kind: str) -> None:
        self.fails_at, self.kind, self.count = fails_at, kind, 0

    def may(self, name: str) -> bool:
        """False where only half of it is to happen before it fails; raises where none is."""
        self.count += 1
        if self.count < self.fails_at or (self.kind == "error" and self.count > self.fails_at):
            return True
        if self.kind == "full" and name not in NEED_ROOM:
            return True
        if name == "write":
            return False
        self.fail()
        raise AssertionError

    def fail(self) -> None:
        if self.kind == "killed":
            raise KilledError
        raise OSError(errno.ENOSPC, "No space left on device")

    @property
    def has_failed(self) -> bool:
        return self.count >= self.fails_at


@contextmanager
def failing(disk: Disk) -> Iterator[None]:
    """Every file operation of a save goes through `disk`."""

    def watched(name, call):
        def operation(*arguments, **options):
            disk.may(name)
            return call(*arguments, **options)

        return operation

    class File:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            if not disk.may("write"):
                self.file.write(bytes(data)[: len(data) // 2])
                self.file.flush()
                disk.fail()
            self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, watched(name, getattr(os, name)))
        opened = watched("open", builtins.open)
        patch.setattr(durable, "open", lambda *a: File(opened(*a)), raising=False)
        yield


def saver(folder):
    return Saver(folder, keep=2, monitor="accuracy/val", mode="max", config_digest="d")


def write(keeper, step, value):
    """A save without its thread; None, or what it fails with."""
    model = {"weight": torch.full((3,), float(step)), "value": torch.tensor(value)}
    state = {"step": step, "value": value}
    keeper.write(step, {"model": model, "state": state, "metrics": {"accuracy/val": value}})
    failure, keeper.failure = keeper.failure, None
    return failure


def assert_whole(folder, allowed):
    """Each folder with a checkpoint's name is one, and they are those that there may be."""
    found = [read_checkpoint(path) for path in steps_in(folder)]
    for checkpoint in found:
        step, value = checkpoint.state["step"], checkpoint.state["value"]
        assert torch.equal(checkpoint.model["weight"], torch.full((3,), float(step)))
        assert checkpoint.metrics == {"accuracy/val": value}
        assert (step, value) in allowed
    return [checkpoint.step for checkpoint in found]


# Three were saved (the best, and two more); then comes a new one, or the newest once again
NEXT = {"a new step": (4, 0.3, [3, 4]), "the same step again": (3, 0.3, [3])}


@pytest.mark.parametrize("kind", ["error", "full", "killed"])
@pytest.mark.parametrize("what", NEXT)
def test_each_operation_of_a_save_may_fail(what, kind, tmp_path):
    step, value, acceptable = NEXT[what]
    saved = [(1, 0.9), (2, 0.1), (3, 0.2)]
    keeper = saver(tmp_path / "before")
    assert [write(keeper, *each) for each in saved] == [None] * 3
    for number in range(1, 200):
        folder = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "before", folder)
        keeper, disk = saver(folder), Disk(number, kind)
        keeper.durable = 3
        with failing(disk):
            failure = write(keeper, step, value)
        if not disk.has_failed:
            assert failure is None
            break
        assert failure is None or isinstance(failure, OSError | StorageError | KilledError)
        steps = assert_whole(folder, [*saved, (step, value)])
        if kind == "error" and failure:  # at once, and not only after a restart
            assert 3 in steps
            assert not list(folder.glob(".tmp-step-*"))

        again = saver(folder)
        newest = again.load_newest()
        assert newest.step in acceptable
        assert newest.step == step or failure is not None  # no failure was swallowed
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
        steps = assert_whole(folder, [*saved, (step, value)])
        assert {1, 3} <= set(steps)  # the best, and the newest of before
        assert write(again, 5, 0.4) is None
        assert by_value(folder, "accuracy/val", "max")[0].name == "step-00000001"
    else:
        raise AssertionError("a save has no end")
    print(f"{what}, {kind}: {number - 1} operations")
    assert number > 20


@pytest.mark.parametrize("kind", ["error", "full", "killed"])
def test_each_operation_of_writing_a_small_file_may_fail(kind, tmp_path):
    path = tmp_path / "summary.json"
    for number in range(1, 50):
        runs.write_json(path, {"step": 1})
        disk = Disk(number, kind)
        with failing(disk), suppress(OSError, KilledError):
            runs.write_json(path, {"step": 2})
        assert runs.read_json(path) in ({"step": 1}, {"step": 2})
        if not disk.has_failed:
            assert runs.read_json(path) == {"step": 2}
            break
        runs.clear_leftovers(tmp_path)
        assert [each.name for each in tmp_path.iterdir()] == ["summary.json"]
    assert number > 5
