"""The processes of a sweep's jobs under way: what waits, what runs, and what becomes of each."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any

from dltrain.commands.sweep_job import Judge, Outcome
from dltrain.commands.sweep_task import SweepTask
from dltrain.durable import synced_together
from dltrain.sweeps.ledger import JobRecord
from dltrain.sweeps.live import Screen
from dltrain.sweeps.pool import Event, Pool
from dltrain.sweeps.slots import Slots
from dltrain.sweeps.starters import NoStarterError, describe_code


@dataclass(eq=False)
class Unit:
    """What one process does: a job, or several that it trains together."""

    jobs: list[JobRecord]
    together: bool = False
    key: int = 0  # of its process
    slot: int = 0
    open: dict[int, JobRecord] = field(default_factory=dict)  # begun, and not over
    over: set[int] = field(default_factory=set)

    @property
    def unopened(self) -> list[JobRecord]:
        return [j for j in self.jobs if j.number not in self.open and j.number not in self.over]


class LocalRun:
    """Runs units, `slots.count` at once, until all of their jobs have ended or a signal comes."""

    def __init__(
        self,
        task: SweepTask,
        pool: Pool,
        slots: Slots,
        screen: Screen,
        *,
        judge: Judge | None,
        stop_at: str | None,
    ) -> None:
        self.task, self.pool, self.slots, self.screen = task, pool, slots, screen
        self.judge, self.stop_at = judge, stop_at
        self.waiting: deque[Unit] = deque()
        self.free = list(range(slots.count))
        self.keys = count()
        self.running: dict[int, Unit] = {}  # by key
        self.outcomes: dict[int, Outcome] = {}
        self.stopped: set[int] = set()  # by the judge
        self.asked: int | None = None  # to stop, by this signal
        self.has_obeyed = False

    def run(self, units: Sequence[Unit]) -> dict[int, Outcome]:
        """What became of those that ended, by number."""
        self.waiting.extend(units)
        self.task.signals.call(self.on_signal)
        try:
            while self.running or self.waiting:
                self.obey()
                while self.waiting and self.free:
                    self.start(self.waiting.popleft(), self.free.pop(0))
                if not self.running:
                    continue  # what waited was begun by nobody: there is nothing to wait for
                events = self.pool.wait(self.screen.pause)
                with synced_together():  # what the ledger is told of all of them
                    for event in events:
                        self.take(event)
                units = (*self.waiting, *self.running.values())
                self.screen.num_waiting = sum(len(unit.unopened) for unit in units)
                self.screen.refresh()
        except NoStarterError as error:
            again = f"`{self.task.go_on_by}` goes on from the newest checkpoints"
            raise NoStarterError(f"{error}\n{again}") from error
        finally:
            self.task.signals.call(lambda number: None)  # all have ended: nothing is to be saved
        return self.outcomes

    def on_signal(self, number: int) -> None:
        """Safe wherever the program is just now; a second Ctrl-C ends it, and all that runs."""
        self.asked = number
        self.pool.wake()

    def obey(self) -> None:
        """Once asked to stop: what runs is told to save and end, and nothing else begins."""
        if self.asked is None or self.has_obeyed:
            return
        self.has_obeyed = True
        self.waiting.clear()
        signals, num_open = self.task.signals, sum(len(u.open) for u in self.running.values())
        if num_open:
            why = "sweep.on_error=stop" if signals.received is None else signals.name
            again = "; once more ends them at once" if signals.received == signal.SIGINT else ""
            self.screen.say(f"{why}: {jobs_that_save(num_open)}{again}")
        self.pool.signal(self.asked)

    # ------------------------------------------------------------------ processes

    def start(self, unit: Unit, slot: int) -> None:
        task = self.task
        unit.key, unit.slot = next(self.keys), slot
        self.running[unit.key] = unit
        if not unit.together:
            self.begin(unit, unit.jobs[0])
        self.pool.start(
            unit.key,
            folder=str(task.folder),
            jobs=[asdict(job) for job in unit.jobs],
            together=unit.together,
            allowed=task.allowed,
            argv=task.argv,
            share=self.slots.share,
            gpu=self.slots.gpu(slot, unit.jobs[0]),
            neighbours=self.slots.neighbours(unit.jobs[0]),
            judged=self.judge is not None,
            stop_at=self.stop_at,
        )

    def take(self, event: Event) -> None:
        unit, message = self.running[event.key], event.message
        if event.ended:
            self.close(unit, event)
        elif message and "say" in message:
            self.screen.say(message["say"])
        elif message and "alone" in message:
            self.part(unit, message["alone"])
        elif message:
            job = next(job for job in unit.jobs if job.number == message["number"])
            self.hear(unit, job, message)

    def hear(self, unit: Unit, job: JobRecord, message: dict[str, Any]) -> None:
        if "begins" in message:
            self.begin(unit, job)
        elif "outcome" in message:
            self.outcomes[job.number] = Outcome(**message["outcome"])
            if unit.together:  # the others go on, and its directory is free
                self.end(unit, job)
        else:
            self.screen.heard(job, message["event"])
            if message["waits"]:
                assert self.judge is not None
                reason = self.judge(job, message["event"])
                self.stopped |= {job.number} if reason else set()
                self.pool.answer(unit.key, stop=reason)

    def close(self, unit: Unit, event: Event) -> None:
        """Its process has ended. What it had not begun is for another one."""
        del self.running[unit.key]
        self.free = sorted([*self.free, unit.slot])
        how = unexplained(event)
        if not unit.open and not unit.over and how.exit_code not in (130, 143):
            for job in unit.unopened:  # before there was any of them
                self.begin(unit, job)
        left = unit.unopened
        if left and self.asked is None:
            self.waiting.appendleft(Unit(left, together=len(left) > 1))
        for job in list(unit.open.values()):
            self.outcomes.setdefault(job.number, how)
            self.end(unit, job)

    def part(self, unit: Unit, why: str) -> None:
        """Its jobs cannot be trained together after all."""
        self.screen.say(say_alone(unit.jobs, why))
        self.waiting.extendleft(Unit([job]) for job in reversed(unit.unopened))
        unit.over |= {job.number for job in unit.unopened}

    # ------------------------------------------------------------------ jobs

    def begin(self, unit: Unit, job: JobRecord) -> None:
        unit.open[job.number] = job
        self.task.begin(job)
        self.screen.started(job, self.task.ledger.state(job.number).result)

    def end(self, unit: Unit, job: JobRecord) -> None:
        del unit.open[job.number]
        unit.over.add(job.number)
        outcome = self.outcomes[job.number]
        pruned = outcome.stopped and job.number in self.stopped
        decision = self.task.may_go_on(job, outcome)
        how = describe(outcome, pruned=pruned)
        if decision == "again":
            how = f"failed, try {self.task.retried[job.number]} of {self.task.num_tries}"
        self.screen.ended(job, how, outcome.result)
        with self.screen.aside():
            self.task.end(job, outcome, pruned=pruned)
        if decision == "again":
            self.waiting.appendleft(Unit([job]))
            del self.outcomes[job.number]
        elif decision == "stop" and self.asked is None:
            self.asked = signal.SIGTERM


def jobs_that_save(count: int) -> str:
    return "1 running job saves and stops" if count == 1 else f"{count} running jobs save and stop"


def say_alone(jobs: Sequence[JobRecord], why: str) -> str:
    names = [job.directory for job in jobs]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"alone      {shown}: {why}"


def describe(outcome: Outcome, *, pruned: bool) -> str:
    """In a word, for the screen."""
    if outcome.exit_code in (130, 143):
        return "interrupted"
    if outcome.exit_code:
        return "failed"
    return ("pruned" if pruned else "paused") if outcome.stopped else "done"


def unexplained(event: Event) -> Outcome:
    """Of a job that has not said how it ended: killed, or before there was anything to say."""
    assert event.ended
    code = event.ended.code
    if code in (130, 143):  # a signal, before it had begun
        return Outcome(code)
    lines = [event.ended.reason or f"its process {describe_code(code)}"]
    if code == -signal.SIGKILL:
        lines.append("if memory ran out, fewer jobs at once need less: sweep.jobs")
    lines += event.output.strip().splitlines()[-3:]
    return Outcome(1, reason="\n".join(lines))
