"""The time that a run has taken, over all its resumptions, and the part of it that is training."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any


class Clock:
    """Counts from `start`; `lap` leaves out the pauses between `stop` and `start`."""

    def __init__(self, max_time_sec: float = math.inf) -> None:
        self.max_time_sec = max_time_sec
        self.before = 0.0  # seconds of earlier starts of this run
        self.begin: float | None = None
        self.training = self.total_training = 0.0
        self.waiting = self.total_waiting = 0.0  # of training, for the next batch
        self.resumed: float | None = None
        self.deadline = math.inf

    def start(self) -> None:
        now = time.monotonic()
        if self.begin is None:
            self.begin = now
            self.deadline = now + self.max_time_sec - self.before
        self.resumed = now

    def stop(self) -> None:
        if self.resumed is not None:
            self.training += time.monotonic() - self.resumed
            self.resumed = None

    def timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """`batches`, the host's waiting for each counted: 0.2 us a step."""
        now = time.perf_counter
        begin = now()
        for batch in batches:
            self.waiting += now() - begin
            yield batch
            del batch  # not kept while the next is made: on a GPU it may be large
            begin = now()

    def lap(self, num_samples: int) -> dict[str, float]:
        """What a row says of the training since the last lap, in which there were `num_samples`."""
        seconds, self.training = max(self.training, 1e-9), 0.0
        waiting, self.waiting = min(self.waiting, seconds), 0.0
        self.total_training += seconds
        self.total_waiting += waiting
        return {"samples_per_sec": num_samples / seconds, "data_share": waiting / seconds}

    def elapsed(self) -> float:
        """Seconds since the run first started, time between its starts left out."""
        return self.before + (0.0 if self.begin is None else time.monotonic() - self.begin)

    def is_over(self) -> bool:
        return time.monotonic() >= self.deadline
