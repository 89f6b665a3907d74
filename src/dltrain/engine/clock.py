"""The time that a run has taken, over all its resumptions, and the part of it that is training."""

from __future__ import annotations

import math
import time


class Clock:
    """Counts from `start`; `lap` leaves out the pauses between `stop` and `start`."""

    def __init__(self, max_time_sec: float = math.inf) -> None:
        self.max_time_sec = max_time_sec
        self.before = 0.0  # seconds of earlier starts of this run
        self.begin: float | None = None
        self.training = self.total_training = 0.0
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

    def lap(self) -> float:
        """Seconds of training since the last lap; more than 0."""
        seconds, self.training = self.training, 0.0
        self.total_training += seconds
        return max(seconds, 1e-9)

    def elapsed(self) -> float:
        """Seconds since the run first started, time between its starts left out."""
        return self.before + (0.0 if self.begin is None else time.monotonic() - self.begin)

    def is_over(self) -> bool:
        return time.monotonic() >= self.deadline
