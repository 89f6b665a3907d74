"""Jobs of a sweep that other machines run: handed over, watched, stopped, and found again."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

from dltrain.claim import is_held
from dltrain.commands.sweep_job import Outcome
from dltrain.commands.sweep_launch import SweepTask
from dltrain.commands.sweep_node import BEGAN, NodeJob, file_of, read_outcome
from dltrain.errors import UserError
from dltrain.sweeps import ledger as states
from dltrain.sweeps.cluster import (
    PLACE,
    Engine,
    Share,
    check_settings,
    new_place,
    require,
)
from dltrain.sweeps.ledger import JobRecord

POLL_SEC = {"submitit_slurm": 2.0, "submitit_local": 0.2, "ray": 0.5}
# A job may have left the queue before this machine sees the file in which it says how it ended
GRACE_SEC = {"submitit_slurm": 90.0, "submitit_local": 0.0, "ray": 2.0}
PACKAGES = {
    "submitit_slurm": ("submitit", "slurm"),
    "submitit_local": ("submitit", "slurm"),
    "ray": ("ray", "ray"),
}


def check(launcher: str, settings: dict[str, Any], *, dry_run: bool) -> None:
    """Raises UserError for settings that cannot be, and for what is needed here and missing."""
    check_settings(launcher, settings)
    if dry_run:  # at home, perhaps
        return
    require(*PACKAGES[launcher], launcher)
    if launcher == "submitit_slurm" and not (which("sbatch") and which("srun")):
        raise UserError(
            "hydra/launcher=submitit_slurm: there is no sbatch and srun here; start the sweep "
            "where jobs are submitted, or try it with hydra/launcher=submitit_local"
        )


def run_on_cluster(
    launcher: str, settings: dict[str, Any], task: SweepTask, left: list[JobRecord]
) -> None:
    """Runs the jobs there; returns when all have ended, or have been stopped or left alone."""
    share = Share.of(settings, task.settings["jobs"])
    engine = make_engine(launcher, settings, task, share)
    try:
        Watch(task, engine, share).run(left)
    finally:
        engine.close()


def make_engine(launcher: str, settings: dict[str, Any], task: SweepTask, share: Share) -> Engine:
    if launcher == "ray":
        from dltrain.sweeps.ray_engine import RayEngine

        policy, _, times = task.settings["on_error"].partition(":")
        return RayEngine(settings, int(times) if policy == "retry" else 0)
    from dltrain.sweeps.submitit_engine import SlurmEngine, SubmititLocalEngine

    if launcher == "submitit_slurm":
        return SlurmEngine(settings, share.asked)
    return SubmititLocalEngine(settings, share.at_once)


def jobs_in_words(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


@dataclass
class Ticket:
    """A job that was handed over. identity: what its engine calls it; nothing: another process runs
    it, as its lock says."""

    job: JobRecord
    identity: str
    place: Path
    slot: int = 0
    began: bool = False
    missed: float | None = None  # since when its engine has it no more


class Watch:
    """Hands jobs over, sees how they end, and answers signals."""

    def __init__(self, task: SweepTask, engine: Engine, share: Share) -> None:
        self.task, self.engine, self.share = task, engine, share
        self.tickets: dict[int, Ticket] = {}
        self.queue: deque[JobRecord] = deque()
        self.over: list[Ticket] = []
        self.stopping = False

    def run(self, left: Sequence[JobRecord]) -> None:
        self.task.signals.call(lambda number: None)  # they are looked for between two polls
        try:
            self.watch(left)
        finally:
            for ticket in self.over:
                self.engine.forget(ticket.identity, ticket.place)

    def watch(self, left: Sequence[JobRecord]) -> None:
        self.tickets = self.found_again(left)
        self.queue.extend(job for job in left if job.number not in self.tickets)
        self.say_what_goes_on()
        while self.tickets or (self.queue and not self.stopping):
            received = self.task.signals.received
            if received is not None and not self.stopping:
                if received != signal.SIGINT and self.engine.outlives:
                    return self.leave()
                self.stop()
            if not self.stopping:
                self.hand_over()
            for ticket, outcome in self.ended():
                self.end(ticket, outcome)
            if self.tickets:
                time.sleep(POLL_SEC[self.engine.name])

    # ------------------------------------------------------------------ to the engine

    def hand_over(self) -> None:
        """As many jobs as the engine takes now; what was taken is noted before it is given more."""
        room = min(len(self.queue), self.engine.at_a_time)
        if self.engine.limit is not None:
            room = min(room, self.engine.limit - len(self.tickets))
        if room < 1:
            return
        jobs = [self.queue.popleft() for _ in range(room)]
        place = new_place(self.task.folder)
        used = {ticket.slot for ticket in self.tickets.values()}
        free = [slot for slot in range(len(used) + len(jobs)) if slot not in used]
        works = [self.work(job, place, slot) for job, slot in zip(jobs, free, strict=False)]
        ids = self.engine.submit(works, place)
        for job, identity, slot in zip(jobs, ids, free, strict=False):
            self.tickets[job.number] = Ticket(job, identity, place, slot)
            self.task.ledger.note(
                job.number, states.PENDING, engine=self.engine.name, id=identity, place=place.name
            )
        if self.engine.limit is None:
            names = ids[0] if len(ids) == 1 else f"{ids[0]} to {ids[-1]}"
            print(f"{self.engine.name}: {jobs_in_words(len(ids))} handed over: {names}")

    def work(self, job: JobRecord, place: Path, slot: int) -> NodeJob:
        folder = self.task.folder.absolute()
        return NodeJob(
            sweep=str(folder),
            number=job.number,
            place=f"{PLACE}/{place.name}",
            cwd=str(Path.cwd()),
            argv=self.task.argv,
            allowed=self.task.allowed,
            threads=self.share.threads if self.engine.name == "submitit_local" else None,
            devices=self.share.devices(slot),
            output=str(self.engine.log("", folder / PLACE / place.name, job.number))
            if self.engine.name == "ray"
            else None,
        )

    # ------------------------------------------------------------------ from the engine

    def ended(self) -> list[tuple[Ticket, Outcome]]:
        alive = self.engine.alive([t.identity for t in self.tickets.values() if t.identity])
        # One look at a folder, however many jobs: on a file server each question takes a while
        folders = {ticket.place for ticket in self.tickets.values() if ticket.identity}
        there = {folder / name for folder in folders for name in os.listdir(folder)}
        found = []
        for ticket in self.tickets.values():
            if not ticket.began and file_of(ticket.place, ticket.job.number, BEGAN) in there:
                self.begin(ticket)
            has_told = file_of(ticket.place, ticket.job.number) in there
            outcome = self.outcome(ticket, has_told, is_alive=ticket.identity in alive)
            if outcome is not None:
                found.append((ticket, outcome))
        return found

    def begin(self, ticket: Ticket) -> None:
        ticket.began = True
        self.task.begin(ticket.job)
        print(f"{ticket.job.directory} runs ({self.engine.name} {ticket.identity})")

    def outcome(self, ticket: Ticket, has_told: bool, *, is_alive: bool) -> Outcome | None:
        """How the job has ended; None while it goes on."""
        run_dir = self.task.folder / ticket.job.directory
        if not ticket.identity:  # of a process that is not known
            return None if is_held(run_dir) else self.told_by_files(ticket, "it has ended")
        if has_told and not (is_alive and self.engine.near):
            told = read_outcome(ticket.place, ticket.job.number)
            was_stopped = told is not None and told.exit_code in (130, 143)
            if not (was_stopped and is_alive) or self.stopping:
                return told  # otherwise Slurm may be about to run it again
        if is_alive:
            ticket.missed = None
            return None
        now = time.monotonic()
        ticket.missed = now if ticket.missed is None else ticket.missed
        patience = 0.0 if self.stopping else GRACE_SEC[self.engine.name]
        if now - ticket.missed < patience or is_held(run_dir):
            return None
        if self.stopping:
            return self.told_by_files(ticket, "")
        why = self.engine.ended(ticket.identity)
        log = self.engine.log(ticket.identity, ticket.place, ticket.job.number)
        return self.told_by_files(ticket, f"{why}\nits log: {log}")

    def told_by_files(self, ticket: Ticket, reason: str) -> Outcome:
        """Of a job that could not say how it ended."""
        state = self.task.ledger.state(ticket.job.number)
        if state.state == states.DONE:
            return Outcome(0, state.result)
        return Outcome(1, None, reason) if reason else Outcome(143)

    def end(self, ticket: Ticket, outcome: Outcome) -> None:
        """Records it, and does with the job what `sweep.on_error` says."""
        del self.tickets[ticket.job.number]
        self.over.append(ticket)
        if not ticket.began and outcome.exit_code not in (130, 143):
            self.begin(ticket)
        if outcome.exit_code in (130, 143) and not self.stopping:
            outcome = self.cut_off(ticket, outcome)
        self.task.end(ticket.job, outcome)
        if outcome.exit_code == 0:
            value = "" if outcome.result is None else f": {outcome.result:.5g}"
            print(f"{ticket.job.directory} is done{value}")
        decision = self.task.may_go_on(ticket.job, outcome)
        if decision == "again":
            self.queue.append(ticket.job)
        elif decision == "stop" and not self.stopping and self.task.signals.received is None:
            self.stop()

    def cut_off(self, ticket: Ticket, outcome: Outcome) -> Outcome:
        """Stopped by somebody else: the sweep is not whole, and has to say so."""
        step = self.task.ledger.state(ticket.job.number).step
        why = outcome.reason or f"told to stop by {self.engine.name}, or by whoever cancelled it"
        return Outcome(1, None, f"cut off at step {step:,}: {why}")

    # ------------------------------------------------------------------ found again, and stopped

    def found_again(self, jobs: Sequence[JobRecord]) -> dict[int, Ticket]:
        """Those of the jobs that an earlier start handed over, and that still wait or run."""
        earlier = [ticket for job in jobs if (ticket := self.earlier(job))]
        alive = self.engine.alive([ticket.identity for ticket in earlier])
        found = {t.job.number: t for t in earlier if t.identity in alive}
        for job in jobs:
            run_dir = self.task.folder / job.directory
            if job.number not in found and not run_dir.is_symlink() and is_held(run_dir):
                found[job.number] = Ticket(job, "", run_dir, began=True)
        return found

    def earlier(self, job: JobRecord) -> Ticket | None:
        """The last one of the job, as the ledger has it, unless its node has said how it ended."""
        for event in reversed(self.task.ledger.events.get(job.number, [])):
            if event.get("engine") != self.engine.name:
                continue
            identity, name = str(event.get("id", "")), str(event.get("place", ""))
            place = self.task.folder / PLACE / name
            is_known = re.fullmatch("[0-9]{1,9}", name) and re.fullmatch("[0-9_]{1,40}", identity)
            if not is_known or place.is_symlink() or read_outcome(place, job.number) is not None:
                return None
            return Ticket(job, identity, place)
        return None

    def stop(self) -> None:
        """Those that run save and stop; those that wait stay as they are."""
        self.stopping = True
        ids = [ticket.identity for ticket in self.tickets.values() if ticket.identity]
        print(f"stopping {jobs_in_words(len(ids))}: a checkpoint is saved first", flush=True)
        self.engine.cancel(ids)
        for number in [n for n, ticket in self.tickets.items() if not ticket.identity]:
            del self.tickets[number]  # not ours to stop

    def leave(self) -> None:
        """This process is to end: the jobs need it no more."""
        print(f"left alone: {jobs_in_words(len(self.tickets))} of {self.engine.name}")

    def say_what_goes_on(self) -> None:
        if self.tickets:
            names = ", ".join(ticket.job.directory for ticket in list(self.tickets.values())[:3])
            more = f" and {len(self.tickets) - 3} more" if len(self.tickets) > 3 else ""
            print(f"handed over earlier, and under way: {names}{more}")
