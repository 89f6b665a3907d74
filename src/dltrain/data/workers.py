"""Processes that read samples into memory shared with this one, in the order asked for.

A worker is a fork: it has the dataset without a copy, imports nothing, and computes in one thread.
Its part of a batch goes into a slot of an anonymous shared mapping, so that nothing is pickled and
no descriptor is passed. It ignores the signals that stop a run, which its parent
answers, and is killed by the kernel when its parent is gone.
"""

import gc
import os
import signal
import sys
import threading
import warnings
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any, NamedTuple

import numpy as np

from dltrain import cores
from dltrain.data.files import printable
from dltrain.data.shared import shared, slots
from dltrain.data.source import Source
from dltrain.errors import SampleError, WorkerError
from dltrain.lifetime import STOPPING, die_with, signals_held_back

_IDLE = -1
TIMEOUT_SEC = 600  # for a share of one batch: a file server may be slow, but not for ever
MAX_MESSAGE = 2000  # characters
_OF_SAMPLE = "\1"  # begins a message of what the user can mend


def suitable_workers() -> int:
    """One for each core that this process may use, 16 at most: each takes memory."""
    return min(cores.available(), 16)


class Worker(NamedTuple):
    """A process and this end of its pipe."""

    pid: int
    pipe: Connection


class Readers:
    """Reads batches of `source` into slots, in `num_workers` processes or, with 0, in this one.

    At most `num_ahead` batches of at most `batch_size` samples are under way. Batches come back in
    the order in which they were asked for; every worker reads its share of each.
    """

    def __init__(
        self, source: Source, *, batch_size: int, num_ahead: int, num_workers: int
    ) -> None:
        self._workers: list[Worker] = []
        self._owner = os.getpid()
        self._source = source
        self._num_workers = min(num_workers, batch_size)  # each reads a share of every batch
        self._slots = slots((1 + num_ahead, batch_size, *source.shape), source)
        # What each worker is reading, for the message if it dies of it
        self._reading = shared((max(1, num_workers),), np.dtype(np.int64))
        self._slot_of: deque[int] = deque()
        #: the batches under way, by the names that they were given, and their samples
        self.asked: deque[tuple[Any, np.ndarray]] = deque()
        self._next_slot = 0

    @property
    def has_room(self) -> bool:
        return len(self.asked) < len(self._slots) - 1  # one is in use: that taken last

    def ask(self, name: Any, samples: np.ndarray) -> None:
        """Has samples read, int64 [n, 1 + k]: each its index, and k numbers for `Source.read`.

        There must be room.
        """
        assert self.has_room
        if len(self._workers) < self._num_workers:
            self._start()
        slot = self._next_slot
        self._next_slot = (slot + 1) % len(self._slots)
        self._slot_of.append(slot)
        self.asked.append((name, samples))
        for number, worker in enumerate(self._workers):
            begin, end = _share(len(samples), number, self._num_workers)
            head = np.array([slot, begin, samples.shape[1]], dtype=np.int64)
            with suppress(BrokenPipeError, ConnectionResetError):  # `take` says who has died
                worker.pipe.send_bytes(np.append(head, samples[begin:end]).tobytes())

    def take(self) -> np.ndarray:
        """The batch that was asked for first, [n, *shape]: good until the next `take`.

        Raises WorkerError, which names the sample, where it cannot be read or a worker has died.
        """
        slot, (_, samples) = self._slot_of.popleft(), self.asked.popleft()
        if not self._num_workers:
            _read(self._source, samples, self._slots[slot], self._reading)
        for number, worker in enumerate(list(self._workers)):
            try:
                answered = worker.pipe.poll(TIMEOUT_SEC)
                problem = worker.pipe.recv_bytes().decode() if answered else self._stuck(number)
            except (EOFError, OSError):
                problem = self._obituary(number)
            if problem:
                self.close()
                of_sample = problem.startswith(_OF_SAMPLE)
                raise SampleError(problem[1:]) if of_sample else WorkerError(problem)
        return self._slots[slot, : len(samples)]

    def forget(self) -> None:
        """Lets go of what was asked for and not taken, once it has been read."""
        while self._workers and self.asked:
            self.take()
        self._slot_of.clear()
        self.asked.clear()

    def close(self) -> None:
        """Ends the workers. What was asked for is gone; asking again starts new ones."""
        workers, self._workers = self._workers, []
        self._slot_of.clear()
        self.asked.clear()
        for worker in workers:
            worker.pipe.close()
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)  # it holds nothing but memory
            with suppress(ChildProcessError):
                os.waitpid(worker.pid, 0)

    def __del__(self) -> None:
        if not sys.is_finalizing() and self._owner == os.getpid():  # not in a fork of ours
            self.close()

    def _start(self) -> None:
        self._reading[:] = _IDLE
        while len(self._workers) < self._num_workers:
            ours, theirs = Pipe()
            reading = self._reading[len(self._workers) :]
            # To the kernel a parent is a thread: one that ends before the process must not take
            # the workers with it
            parent = self._owner if _in_main_thread() else None
            with signals_held_back():
                pid = _fork()
                if pid == 0:
                    _work(self._source, self._slots, reading, theirs, parent)
            theirs.close()
            self._workers.append(Worker(pid, ours))

    def _obituary(self, number: int) -> str:
        """Of a worker whose pipe is closed: how it ended, and on which sample."""
        who = self._describe(number)
        worker = self._workers.pop(number)
        worker.pipe.close()
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        except ChildProcessError:  # whoever started us ignores SIGCHLD, and the kernel buries it
            return f"{who} and has ended"
        if code >= 0:
            return f"{who} and ended with {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        cure = "if memory ran out, fewer loader.num_workers or a smaller batch need less"
        return f"{who} and was killed by {name}" + (f"\n{cure}" if name == "SIGKILL" else "")

    def _stuck(self, number: int) -> str:
        return f"{self._describe(number)} and has not answered for {TIMEOUT_SEC} seconds"

    def _describe(self, number: int) -> str:
        worker, index = self._workers[number], int(self._reading[number])
        what = f"was reading {self._source.describe(index)}" if index != _IDLE else "was idle"
        return f"data worker {number + 1} of {self._num_workers} (pid {worker.pid}) {what}"


def _work(
    source: Source, slots: np.ndarray, reading: np.ndarray, pipe: Connection, parent: int | None
) -> None:
    """The life of a worker. Never returns, and never raises into its parent's code.

    `parent`: the process to die with; None where the closed pipe has to do.
    """
    code = 1
    try:
        gc.freeze()  # what the parent has left behind is not this process's to finalise
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        if parent is not None:
            die_with(parent)
        _close_all_but(pipe.fileno())
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)  # a fork has but one: OpenMP would wait for the others
        while True:
            (slot, begin, width), rows = np.split(np.frombuffer(pipe.recv_bytes(), np.int64), [3])
            out = slots[slot, begin:]
            try:
                _read(source, rows.reshape(-1, width), out, reading)
                problem = ""
            except WorkerError as error:
                problem = _OF_SAMPLE * isinstance(error, SampleError) + str(error)
            reading[0] = _IDLE
            pipe.send_bytes(problem[:MAX_MESSAGE].encode(errors="replace"))
    except (EOFError, OSError):
        code = 0  # the parent has no more work, or is gone
    finally:
        os._exit(code)


def _read(source: Source, samples: np.ndarray, out: np.ndarray, reading: np.ndarray) -> None:
    for place, (sample, *box) in enumerate(samples.tolist()):
        reading[0] = sample
        try:
            source.read(sample, out[place], *box)
        except Exception as error:
            reason = printable(" ".join(str(error).split()), 500)
            what = f"{source.describe(sample)} cannot be read"
            if isinstance(error, ValueError | OSError):
                raise SampleError(f"{what}: {reason}") from error
            # A fault of the code; and str of a KeyError is but a key
            raise WorkerError(f"{what}: {type(error).__name__} {reason}") from error


def _share(num_samples: int, number: int, num_workers: int) -> tuple[int, int]:
    return num_samples * number // num_workers, num_samples * (number + 1) // num_workers


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns where there are threads: a lock that one of them holds stays locked in
        # the fork. Ours takes none: it reads files and fills memory.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return os.fork()
        except OSError as error:
            raise WorkerError(
                f"no data worker can be started: {error.strerror}; loader.num_workers=0 needs none"
            ) from error


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _close_all_but(descriptor: int) -> None:
    """Leaves the parent's files: its lock on the run's directory, the other workers' pipes."""
    for name in os.listdir("/dev/fd"):
        if int(name) > 2 and int(name) != descriptor:
            with suppress(OSError):  # the listing's own
                os.close(int(name))
