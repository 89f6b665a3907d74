"""Checkpoints of many runs at once, written in the background by a few threads."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from dltrain.engine.checkpoint import Checkpoint
from dltrain.engine.saver import Saver
from dltrain.engine.tensors import snapshot

NUM_WRITERS = 8  # they wait for the disk, which takes several at a time
MAX_AGE_SEC = 1.0


@dataclass(eq=False)
class Snapshot:
    """A checkpoint in memory. value: what is monitored, the more the better; NaN where unknown."""

    step: int
    value: float
    copy: dict[str, Any]
    taken_at: float = field(default_factory=time.monotonic)
    is_being_written: bool = False


class Backlog:
    """Threads that write for the savers that have something waiting, in the order of asking."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.savers: deque[QueuedSaver] = deque()
        self.threads: list[threading.Thread] = []
        self.is_closed = False

    def make_saver(self, *arguments: Any, **options: Any) -> QueuedSaver:
        return QueuedSaver(self, *arguments, **options)

    def ask(self, saver: QueuedSaver) -> None:
        """Under `changed`: the saver has something to write."""
        if saver not in self.savers:
            self.savers.append(saver)
        if len(self.threads) < NUM_WRITERS:
            name = f"checkpoints-{len(self.threads)}"
            self.threads.append(threading.Thread(target=self.work, name=name, daemon=True))
            self.threads[-1].start()
        self.changed.notify_all()

    def work(self) -> None:
        while True:
            with self.changed:
                while not self.savers and not self.is_closed:
                    self.changed.wait()
                if not self.savers:
                    return
                saver = self.savers.popleft()
                item = saver.waiting[0]
                item.is_being_written = True
            saver.write(item.step, item.copy)
            with self.changed:
                saver.waiting.remove(item)
                if saver.waiting:  # one of a run at a time: an older one never follows a newer
                    self.savers.append(saver)
                self.changed.notify_all()

    def close(self) -> None:
        """When all savers have waited for theirs."""
        with self.changed:
            self.is_closed = True
            self.changed.notify_all()
        for thread in self.threads:
            thread.join()


class QueuedSaver(Saver):
    """A saver whose checkpoints wait for a thread; the run goes on meanwhile.

    What would be removed as soon as all were written is not written: what has `keep` newer ones
    and is not the best. So the folder ends with what it would hold anyway. None waits for longer
    than MAX_AGE_SEC, or the run waits for it.
    """

    def __init__(self, backlog: Backlog, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.backlog = backlog
        self.waiting: list[Snapshot] = []
        self.values: dict[int, float] = {}  # by step, of all that were saved by this process
        self.best_of_all: Snapshot | None = None

    def save(
        self, step: int, model: dict[str, Tensor], state: dict[str, Any], metrics: dict[str, float]
    ) -> None:
        self.check()
        copy = {"model": snapshot(model), "state": snapshot(state), "metrics": {}}
        if self.is_sound(metrics):
            copy["metrics"] = dict(metrics)
        self.last_saved = step
        sign = 1.0 if self.mode == "max" else -1.0
        item = Snapshot(step, sign * copy["metrics"].get(self.monitor, math.nan), copy)
        if not math.isnan(item.value):
            self.values[step] = item.value
        if self.best is not None and self.best["step"] == step:
            self.best_of_all = item
        with self.backlog.changed:
            # The same step again, evaluated now, takes the place of the one before
            self.waiting = [w for w in self.waiting if w.step != step or w.is_being_written]
            self.waiting.append(item)
            self.waiting = [each for each in self.waiting if not self.is_superfluous(each)]
            if not any(each.is_being_written for each in self.waiting):
                self.backlog.ask(self)
            oldest = self.waiting[0]
            self.wait_until(lambda: self.is_written(oldest) or not is_old(oldest))
        self.check()

    def load_best(self) -> Checkpoint | None:
        """From memory, if it was saved by this process: as it was before it was written."""
        item = self.best_of_all
        if item is None or self.best is None or item.step != self.best["step"]:
            return super().load_best()
        path = self.folder / f"step-{item.step:08d}"
        return Checkpoint(
            path, item.step, item.copy["metrics"], item.copy["model"], item.copy["state"]
        )

    def is_superfluous(self, item: Snapshot) -> bool:
        num_newer = sum(each.step > item.step for each in self.waiting)
        best = max(self.values, key=lambda step: (self.values[step], step), default=None)
        return num_newer >= self.keep and item.step != best and not item.is_being_written

    def is_written(self, item: Snapshot) -> bool:
        return all(each is not item for each in self.waiting)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        self.backlog.changed.wait_for(condition)

    def wait(self) -> None:
        with self.backlog.changed:
            self.wait_until(lambda: not self.waiting)
        self.check()


def is_old(item: Snapshot) -> bool:
    return time.monotonic() - item.taken_at > MAX_AGE_SEC
