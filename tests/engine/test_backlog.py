"""Checkpoints of many runs, written by a few threads: the folders end as if each was written."""

import math
import os
import random
import threading

import pytest
import torch

from dltrain.engine import checkpoint as checkpoints
from dltrain.engine.backlog import Backlog
from dltrain.engine.checkpoint import read_checkpoint, steps_in
from dltrain.engine.saver import Saver
from dltrain.errors import NonFiniteError

OPTIONS = {"keep": 2, "monitor": "accuracy/val", "mode": "max", "config_digest": ""}


@pytest.fixture
def backlog():
    made = Backlog()
    yield made
    made.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("checkpoints-")]


def save(saver, step, value):
    metrics = {} if value is None else {"accuracy/val": value}
    if metrics:
        saver.is_better(step, metrics)
    model = {"weight": torch.full((3,), float(step))}
    saver.save(step, model, {"step": step, "tuple": (1, 2)}, metrics)


@pytest.fixture
def held(monkeypatch):
    """A disk that takes nothing until it is let go."""
    gate, write = threading.Event(), checkpoints.write_checkpoint

    def patient(*arguments, **options):
        gate.wait(30)
        return write(*arguments, **options)

    monkeypatch.setattr("dltrain.engine.saver.write_checkpoint", patient)
    yield gate
    gate.set()


@pytest.mark.parametrize("seed", range(8))
def test_a_slow_disk_ends_with_the_folders_of_a_fast_one(seed, backlog, held, tmp_path):
    chance = random.Random(seed)
    options = OPTIONS | {"keep": chance.choice([2, 3]), "mode": chance.choice(["max", "min"])}
    savers = [backlog.make_saver(tmp_path / f"q{i}", **options) for i in range(3)]
    plain = [Saver(tmp_path / f"p{i}", **options) for i in range(3)]
    history = [
        [(step, chance.choice([None, math.nan, 0.25, 0.5, 0.75, 1.0])) for step in range(1, 8)]
        for _ in savers
    ]
    for saver, rows in zip(savers, history, strict=True):
        for step, value in rows:
            save(saver, step, value)
        assert len(saver.waiting) <= options["keep"] + 2
    held.set()
    for queued, each, rows in zip(savers, plain, history, strict=True):
        queued.wait()
        for step, value in rows:
            save(each, step, value)
        each.wait()
        assert sorted(os.listdir(queued.folder)) == sorted(os.listdir(each.folder))
        for mine, theirs in zip(steps_in(queued.folder), steps_in(each.folder), strict=True):
            assert read_checkpoint(mine).state == read_checkpoint(theirs).state
        assert queued.best == each.best
        assert queued.durable == queued.last_saved == 7


def test_the_best_is_at_hand_as_it_is_on_the_disk(backlog, tmp_path):
    saver = backlog.make_saver(tmp_path, **OPTIONS)
    for step, value in ((1, 0.5), (2, 0.9), (3, 0.6), (4, 0.7)):
        save(saver, step, value)
    saver.wait()
    at_hand, on_disk = saver.load_best(), Saver.load_best(saver)
    assert at_hand.path == on_disk.path
    assert (at_hand.step, at_hand.metrics) == (on_disk.step, on_disk.metrics) == (2, {
        "accuracy/val": 0.9
    })  # fmt: skip
    assert torch.equal(at_hand.model["weight"], on_disk.model["weight"])


def test_a_failure_is_told_to_the_run_that_it_is_of(backlog, tmp_path):
    savers = [backlog.make_saver(tmp_path / name, **OPTIONS) for name in "ab"]
    savers[0].save(1, {"weight": torch.tensor([math.nan])}, {}, {})
    save(savers[1], 1, 0.5)
    with pytest.raises(NonFiniteError):
        savers[0].wait()
    savers[1].wait()
    assert [path.name for path in steps_in(savers[1].folder)] == ["step-00000001"]


def test_no_checkpoint_waits_for_long(backlog, held, tmp_path, monkeypatch):
    """The run waits rather than go on from an old one: here the next save waits for the disk."""
    monkeypatch.setattr("dltrain.engine.backlog.MAX_AGE_SEC", 0.0)
    saver = backlog.make_saver(tmp_path, **OPTIONS)
    done = threading.Event()

    def go_on():
        save(saver, 1, 0.5)
        save(saver, 2, 0.5)
        done.set()

    thread = threading.Thread(target=go_on)
    thread.start()
    assert not done.wait(0.1)
    held.set()
    assert done.wait(30)
    thread.join()
    saver.wait()
    assert [path.name for path in steps_in(tmp_path)] == ["step-00000001", "step-00000002"]
