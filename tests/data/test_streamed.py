"""The streamed loader: what the resident one gives, with any number of workers; and their ends."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from dltrain.data.augment import Crop, Flip
from dltrain.data.resident import ResidentLoader
from dltrain.data.source import ArraySource
from dltrain.data.streamed import StreamedLoader
from dltrain.data.workers import Readers
from dltrain.errors import WorkerError

N = 53
INPUTS = np.random.RandomState(0).randint(0, 256, (N, 3, 6, 5)).astype(np.uint8)
TARGETS = torch.arange(N) * 7 % 10
OPTIONS = {
    "batch_size": 8,
    "mean": (0.1, 0.2, 0.3),
    "std": (0.5, 0.6, 0.7),
    "device": "cpu",
    "shuffle": True,
    "augmentations": (Crop(padding=2), Flip(probability=0.5)),
    "seed": 3,
}

BATCHES = [
    {},
    {"drop_last": True},
    {"rank": 1, "world_size": 3},
    {"augmentations": (), "shuffle": False, "batch_size": 60},
]


@pytest.fixture
def make():
    """A function that makes a loader, which is closed afterwards."""
    made = []

    def loader(source=None, targets=TARGETS, *, num_workers=2, **options):
        source = source or ArraySource(INPUTS, "train")
        made.append(StreamedLoader(source, targets, num_workers=num_workers, **OPTIONS | options))
        return made[-1]

    yield loader
    for each in made:
        each.close()


def children():
    """The processes that this one has started and not buried."""
    return {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if is_child(pid)}


def is_child(pid):
    state = stat(pid)
    return state is not None and int(state[1]) == os.getpid()


def stat(pid):
    """State, parent and so on (proc(5)); None where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def assert_equal(batches, expected):
    batches, expected = list(batches), list(expected)
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        for column, wanted in zip(batch, other, strict=True):
            assert torch.equal(column, wanted)
            assert column.stride() == wanted.stride()


# ---------------------------------------------------------------------- the same batches


@pytest.mark.parametrize("num_workers", [0, 1, 2, 5])
@pytest.mark.parametrize("options", BATCHES)
def test_the_batches_are_those_of_a_resident_loader(num_workers, options, make):
    loader = make(num_workers=num_workers, **options)
    resident = ResidentLoader(INPUTS, TARGETS, **OPTIONS | options)
    assert (len(loader), loader.num_samples) == (len(resident), resident.num_samples)
    for epoch, start in ((0, 0), (1, 0), (1, len(loader) // 2), (2, len(loader)), (0, 0)):
        assert_equal(loader.epoch(epoch, start), resident.epoch(epoch, start))


def test_float_samples_are_those_of_a_resident_loader(make):
    inputs = np.random.RandomState(1).randn(N, 2).astype(np.float32)
    options = {"augmentations": (), "mean": (0.5, 0.25), "std": (2.0, 3.0)}
    loader = make(ArraySource(inputs, "train"), **options)
    assert_equal(loader.epoch(0), ResidentLoader(inputs, TARGETS, **OPTIONS | options).epoch(0))


def test_an_epoch_that_was_left_does_not_show_in_the_next(make):
    loader, resident = make(), ResidentLoader(INPUTS, TARGETS, **OPTIONS)
    left = loader.epoch(0)
    next(left)
    assert_equal(loader.epoch(1), resident.epoch(1))  # while `left` is still held
    next(loader.epoch(3))
    assert_equal(loader.epoch(2, 1), resident.epoch(2, 1))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_two_epochs_at_once_do_not_take_each_others_batches(num_workers, make):
    loader, resident = make(num_workers=num_workers), ResidentLoader(INPUTS, TARGETS, **OPTIONS)
    first, second = loader.epoch(0), loader.epoch(1)
    turns = [next(each) for _ in range(len(loader)) for each in (first, second)]
    assert_equal(turns[::2], resident.epoch(0))
    assert_equal(turns[1::2], resident.epoch(1))


def test_a_rank_without_samples_has_empty_batches(make):
    options = {"batch_size": 60, "rank": 59, "world_size": 60, "shuffle": False}
    batches = list(make(**options).epoch(0))
    assert [len(batch.targets) for batch in batches] == [0]


def test_workers_outlive_the_thread_that_started_them(make):
    loader = make()
    thread = threading.Thread(target=lambda: next(loader.epoch(0)))
    thread.start()
    thread.join()
    assert len(list(loader.epoch(1))) == len(loader)


def test_a_batch_stays_what_it_is_while_others_are_read(make):
    for options in ({}, {"augmentations": ()}):
        batches = make(**options).epoch(0)
        first = next(batches)
        inputs = first.inputs.clone()
        list(batches)
        assert torch.equal(first.inputs, inputs)


# ---------------------------------------------------------------------- workers and their ends


def test_workers_live_from_epoch_to_epoch_and_end_with_close(make):
    before = children()
    loader = make()
    list(loader.epoch(0))
    workers = children() - before
    assert len(workers) == 2
    list(loader.epoch(1))
    assert children() - before == workers
    loader.close()
    assert children() == before
    list(loader.epoch(0))
    assert len(children() - before) == 2


def test_no_descriptor_is_left_open(make):
    def descriptors():
        return len(os.listdir("/dev/fd"))

    loader = make()
    list(loader.epoch(0))
    loader.close()
    before = descriptors()
    for epoch in range(5):
        list(loader.epoch(epoch))
        loader.close()
    assert descriptors() == before


def test_workers_ignore_what_stops_a_run(make):
    before = children()
    loader = make()
    batches = loader.epoch(0)
    next(batches)
    for worker in children() - before:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(worker, number)
    rest = list(batches)
    assert len(rest) == len(loader) - 1
    assert len(children() - before) == 2


@pytest.mark.parametrize("moment", ["between epochs", "within one"])
def test_a_killed_worker_is_an_error_that_names_it(moment, make):
    before = children()
    loader = make()
    batches = loader.epoch(0)
    next(batches)
    if moment == "between epochs":
        list(batches)
        batches = loader.epoch(1)
    worker = min(children() - before)
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(WorkerError, match=rf"data worker \d of 2 \(pid {worker}\) .* was killed"):
        list(batches)
    assert children() == before  # the other one has ended too
    assert len(list(loader.epoch(0))) == len(loader)  # whoever goes on gets new ones


class Counted:
    """A part that changes nothing, and notes how many threads would compute it."""

    def __init__(self):
        self.threads = set()

    def draw(self, random, image_shape):
        return random.happens(0, 0.5)

    def __call__(self, samples, draws):
        self.threads.add(torch.get_num_threads())
        return samples


def test_one_thread_augments_and_the_step_has_its_own_again(make):
    """Several would wait for cores that the workers are using."""
    part, before = Counted(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        next(make(augmentations=(part,)).epoch(0))
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert (part.threads, after) == ({1}, 2)


class Hostile(ArraySource):
    """A sample that kills whoever reads it, and one that cannot be read."""

    def read(self, index, out, *box):
        if index == 11:
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 40:
            raise ValueError("it is\nno image")
        super().read(index, out, *box)


def test_a_sample_that_kills_its_worker_is_named(make):
    loader = make(Hostile(INPUTS, "train"), shuffle=False)
    with pytest.raises(WorkerError, match=r"was reading sample 11 of train and was killed by SIGK"):
        list(loader.epoch(0))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_sample_that_cannot_be_read_is_named(num_workers, make):
    source = Hostile(INPUTS, "train")
    loader = make(source, shuffle=False, num_workers=num_workers)
    with pytest.raises(WorkerError, match="sample 40 of train cannot be read: it is no image"):
        list(loader.epoch(0, 3))


class Large:
    """Samples of 8 MB, so that every worker is at work for a while."""

    dtype, shape, channels_last = np.dtype(np.uint8), (8 << 20,), False

    def read(self, index, out, *box):
        out[...] = index


def test_batches_larger_than_any_pipe_come_whole_and_in_order():
    readers = Readers(Large(), batch_size=3, num_ahead=2, num_workers=2)
    try:
        readers.ask(0, np.array([[1], [2], [3]]))
        readers.ask(0, np.array([[4]]))
        assert not readers.has_room
        assert readers.take()[:, -1].tolist() == [1, 2, 3]
        readers.ask(0, np.array([[5], [6]]))
        assert readers.take()[:, 0].tolist() == [4]
        assert readers.take()[:, 1 << 20].tolist() == [5, 6]
    finally:
        readers.close()


ORPHANS = """
import os, signal
import numpy as np
from dltrain.data.source import ArraySource
from dltrain.data.workers import Readers
source = ArraySource(np.zeros((9, 4), np.uint8), "x")
readers = Readers(source, batch_size=4, num_ahead=2, num_workers=3)
readers.ask(0, np.arange(4)[:, None]); readers.take()
print(*[worker.pid for worker in readers._workers], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_die_with_their_parent_even_where_that_was_killed():
    process = subprocess.run([sys.executable, "-c", ORPHANS], capture_output=True, text=True)
    workers = [int(text) for text in process.stdout.split()]
    assert process.returncode == -signal.SIGKILL
    assert len(workers) == 3, process.stderr
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < deadline, "orphans"
        time.sleep(0.01)


def is_running(pid):
    state = stat(pid)
    return state is not None and state[0] != "Z"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_gpu_gets_the_same_batches_however_long_they_are_kept(num_workers, make):
    on_gpu = make(num_workers=num_workers, device="cuda")
    for epoch in (0, 1):
        kept = list(on_gpu.epoch(epoch))  # none is written to while later ones come
        for batch, expected in zip(kept, make(num_workers=0).epoch(epoch), strict=True):
            for column, wanted in zip(batch, expected, strict=True):
                torch.testing.assert_close(column.cpu(), wanted)
