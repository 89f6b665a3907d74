"""What the screen shows while a sweep runs: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from dltrain.sweeps.ledger import JobRecord
from dltrain.sweeps.table import MIN_LABEL, SPACE, clock, cut, label, shown

DRAWS_PER_SEC = 4
MAX_BAR = 20


@dataclass
class Progress:
    """A job that runs, as far as it has told. best: of `checkpoint.monitor` so far."""

    job: JobRecord
    best: float | None = None
    began: float = field(default_factory=time.monotonic)
    fraction: float = 0.0
    epoch: float = 0.0
    first: tuple[float, float] | None = None  # (time, fraction) when it was first heard of

    @property
    def monitor(self) -> str:
        return str(self.job.config["checkpoint"]["monitor"])

    def take(self, event: dict[str, Any]) -> None:
        num_steps = event["num_steps"]
        self.fraction = event["step"] / num_steps if num_steps else 0.0
        self.epoch = event["epoch"]
        if self.first is None:
            self.first = (time.monotonic(), self.fraction)
        value = event.get(self.monitor)
        if value is not None and value == value and is_better(self.job, value, self.best):
            self.best = value

    def seconds_left(self) -> float | None:
        """By its speed since it was first heard of; it may have gone on from a checkpoint."""
        if self.first is None or self.fraction <= self.first[1]:
            return None
        spent, done = time.monotonic() - self.first[0], self.fraction - self.first[1]
        return spent * (1 - self.fraction) / done


def is_better(job: JobRecord, value: float, than: float | None) -> bool:
    if than is None:
        return True
    return value >= than if job.config["checkpoint"]["mode"] == "max" else value <= than


class Screen:
    """What is known of a sweep under way, and what of it is to be seen; this one shows nothing.

    num_jobs: of the whole sweep; num_done: of these before it went on.
    """

    pause: float | None = None  # seconds between two drawings; None: there is nothing to draw

    def __init__(self, num_jobs: int, num_done: int, slots: int) -> None:
        self.num_jobs, self.slots = num_jobs, slots
        self.num_waiting = 0  # of those that are to run just now
        self.counts = {"done": num_done, "failed": 0, "pruned": 0}
        self.running: dict[int, Progress] = {}
        self.durations: list[float] = []  # of jobs that were seen from beginning to end
        self.best: tuple[float, JobRecord] | None = None

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def started(self, job: JobRecord, best: float | None) -> None:
        self.running[job.number] = Progress(job, best)

    def heard(self, job: JobRecord, event: dict[str, Any]) -> None:
        self.running[job.number].take(event)

    def ended(self, job: JobRecord, how: str, result: float | None) -> None:
        """how: `done`, `failed`, `pruned`, or in other words what became of it."""
        progress = self.running.pop(job.number)
        if how in self.counts:
            self.counts[how] += 1
        if how == "done":
            self.durations.append(time.monotonic() - progress.began)
        if result is not None and (self.best is None or is_better(job, result, self.best[0])):
            self.best = (result, job)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is printed within it stays, on lines of its own."""
        yield

    def say(self, text: str) -> None:
        with self.aside(), suppress(OSError, ValueError):
            print(text, flush=True)

    def refresh(self) -> None:
        """Called now and then, and after every event."""

    def seconds_left(self) -> float | None:
        """Of the whole sweep: what runs, and what waits as long as those before it took."""
        left = [each.seconds_left() for each in self.running.values()]
        known = [seconds for seconds in left if seconds is not None]
        whole = list(self.durations)
        if not whole:
            spent = [time.monotonic() - each.began for each in self.running.values()]
            pairs = zip(spent, left, strict=True)
            whole = [took + more for took, more in pairs if more is not None]
        if not whole or len(known) < len(left):
            return None
        work = sum(known) + self.num_waiting * sum(whole) / len(whole)
        return max([work / self.slots, *known])


class Lines(Screen):
    """A line where a job begins, and one where it ends."""

    def started(self, job: JobRecord, best: float | None) -> None:
        super().started(job, best)
        self.say(f"job {job.number}  {label(job)}  begins")

    def ended(self, job: JobRecord, how: str, result: float | None) -> None:
        progress = self.running[job.number]
        super().ended(job, how, result)
        value = f"{progress.monitor} {shown(progress.monitor, result)}"
        took = clock(time.monotonic() - progress.began)
        over = f"{sum(self.counts.values())} of {self.num_jobs} are over"
        parts = [f"job {job.number}", label(job), how, value if result is not None else "", took]
        self.say(SPACE.join(filter(None, [*parts, over])))


class Table(Screen):
    """A line for each job that runs, with a bar; counts, the best and the time left below."""

    pause = 1 / DRAWS_PER_SEC

    def __enter__(self) -> Table:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        # No thread: the main one draws. And rich would wrap what others print, paths in their midst
        self._live = Live(
            "",
            console=self._console,
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        self._drawn = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        self._live.update("", refresh=True)
        self._drawn = 0.0
        yield

    def refresh(self) -> None:
        if time.monotonic() - self._drawn < 1 / DRAWS_PER_SEC:
            return
        from rich.text import Text

        width, height = self._console.size
        is_ascii = not self._console.encoding.lower().startswith("utf")
        lines = draw(self, width - 1, height - 1, ascii_only=is_ascii)
        self._live.update(Text("\n".join(lines), no_wrap=True, overflow="crop"), refresh=True)
        self._drawn = time.monotonic()


def draw(screen: Screen, width: int, height: int, *, ascii_only: bool = False) -> list[str]:
    """At most `height` lines of at most `width` columns."""
    running = sorted(screen.running.values(), key=lambda each: each.job.number)
    room = max(1, height - 2)
    rows = [row(each, width, ascii_only=ascii_only) for each in running[:room]]
    if len(running) > room:
        rows[-1] = f"and {len(running) - room + 1} more run"
    counts = [f"{number} {what}" for what, number in screen.counts.items() if number]
    counts += [f"{len(running)} running", f"{screen.num_waiting} to go"]
    left = screen.seconds_left()
    last = [", ".join(counts)] + ([f"{clock(left)} left"] if left is not None else [])
    best = screen.best
    for each in running:
        if each.best is not None and (best is None or is_better(each.job, each.best, best[0])):
            best = (each.best, each.job)
    if best is not None:
        value, job = best
        monitor = job.config["checkpoint"]["monitor"]
        last.append(f"best {shown(monitor, value)}: job {job.number} {label(job)}")
    return [cut(line, width) for line in (*rows, SPACE.join(last))]


def row(progress: Progress, width: int, *, ascii_only: bool) -> str:
    """`3  lr=0.1 seed=2  ━━━━━━──────  epoch 3.2/10  97.22%  0:12 left`, as much as fits."""
    left = progress.seconds_left()
    parts = [
        f"{progress.fraction:4.0%}",
        "" if progress.best is None else shown(progress.monitor, progress.best).rjust(6),
        "" if left is None else f"{clock(left)} left",
        f"epoch {progress.epoch:.1f}",
    ]
    number, what = str(progress.job.number).rjust(3), label(progress.job)
    name_width = max(MIN_LABEL, min(len(what), width // 3))
    space = width - len(number) - name_width - len(SPACE)
    beside = ""
    for part in filter(None, parts):
        if len(beside) + len(SPACE + part) <= space:
            beside += SPACE + part
    bar = min(MAX_BAR, space - len(beside) - len(SPACE))
    done, rest = ("#", ".") if ascii_only else ("━", "─")
    filled = round(max(0, bar) * min(1.0, progress.fraction))
    shape = SPACE + done * filled + rest * (bar - filled) if bar >= 4 else ""
    return f"{number}{SPACE}{cut(what, name_width).ljust(name_width)}{shape}{beside}"


def choose_screen(num_jobs: int, num_done: int, slots: int) -> Screen:
    """A table where somebody looks, lines where a file or a pipe is written."""
    try:
        looks = sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        looks = False
    return (Table if looks else Lines)(num_jobs, num_done, slots)
