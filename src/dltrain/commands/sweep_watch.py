"""Watches jobs of a sweep that run elsewhere: hands them over, hears of them, answers signals."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from dltrain.claim import is_held
from dltrain.commands.local_run import describe
from dltrain.commands.sweep_job import Outcome
from dltrain.commands.sweep_node import BEGAN, TOLD, NodeJob, file_of, read_outcome
from dltrain.commands.sweep_task import SweepTask
from dltrain.commands.sweep_tickets import Ticket, found_again
from dltrain.sweeps import ledger as states
from dltrain.sweeps.cluster import PLACE, Engine, Share, new_place
from dltrain.sweeps.ledger import JobRecord
from dltrain.sweeps.live import Screen


class Watch:
    """The jobs of one launch, until all have ended or this process is told to end."""

    def __init__(self, task: SweepTask, engine: Engine, share: Share, screen: Screen) -> None:
        self.task, self.engine, self.share, self.screen = task, engine, share, screen
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
        self.tickets = found_again(self.task, self.engine, left)
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
            self.look()
            if self.tickets:
                self.wait()

    def wait(self) -> None:
        """Until it is time to look again; a table is drawn meanwhile."""
        until = time.monotonic() + self.engine.poll_sec
        while (left := until - time.monotonic()) > 0:
            self.screen.refresh()
            time.sleep(min(left, self.screen.pause or left))

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
        # At once for all: a job that is in the queue and not in the ledger is handed over again
        facts = {"state": states.PENDING, "engine": self.engine.name, "place": place.name}
        taken = list(zip(jobs, ids, free, strict=False))
        self.task.ledger.note_all([{"number": j.number, **facts, "id": i} for j, i, _ in taken])
        for job, identity, slot in taken:
            self.tickets[job.number] = Ticket(job, identity, place, slot)
        if self.engine.limit is None:
            names = ids[0] if len(ids) == 1 else f"{ids[0]} to {ids[-1]}"
            shown = f": {names}" if self.engine.outlives else ""  # the names of a queue to look at
            self.screen.say(f"{self.engine.name}: {in_words(len(ids))} handed over{shown}")

    def work(self, job: JobRecord, place: Path, slot: int) -> NodeJob:
        folder = self.task.folder.absolute()
        is_here = self.engine.shares_machine
        output = self.engine.log("", folder / PLACE / place.name, job.number)
        return NodeJob(
            sweep=str(folder),
            number=job.number,
            place=f"{PLACE}/{place.name}",
            cwd=str(Path.cwd()),
            is_typed=not self.task.goes_on,
            argv=self.task.argv,
            allowed=self.task.allowed,
            threads=self.share.threads if is_here else None,
            devices=self.share.devices(slot) if is_here else None,
            output=None if self.engine.keeps_output else str(output),
            stop_at=self.task.stop_at,
        )

    # ------------------------------------------------------------------ from the engine

    def look(self) -> None:
        """At what has begun, what has been told, and what has ended."""
        alive = self.engine.alive([t.identity for t in self.tickets.values() if t.identity])
        # One look at a folder, however many jobs: on a file server each question takes a while
        folders = {ticket.place for ticket in self.tickets.values() if ticket.identity}
        there = {folder / name for folder in folders for name in os.listdir(folder)}
        for ticket in list(self.tickets.values()):
            if not ticket.began and file_of(ticket.place, ticket.job.number, BEGAN) in there:
                self.begin(ticket)
            if file_of(ticket.place, ticket.job.number, TOLD) in there:
                self.hear(ticket)
            has_told = file_of(ticket.place, ticket.job.number) in there
            outcome = self.outcome(ticket, has_told, is_alive=ticket.identity in alive)
            if outcome is not None:
                self.end(ticket, outcome)

    def begin(self, ticket: Ticket) -> None:
        ticket.began = True
        self.task.begin(ticket.job)
        self.screen.started(ticket.job, self.task.ledger.state(ticket.job.number).result)

    def hear(self, ticket: Ticket) -> None:
        """Shows how the job goes, and stops it where the sweep's judge says so."""
        for event in ticket.news():
            if not ticket.began:
                self.begin(ticket)
            self.screen.heard(ticket.job, event)
            if self.task.judge is None or event["split"] != "val" or ticket.was_asked_to_stop:
                continue
            reason = self.task.judge(ticket.job, event)
            if reason:
                ticket.ask_to_stop(reason)

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
        patience = 0.0 if self.stopping else self.engine.grace_sec
        if now - ticket.missed < patience or is_held(run_dir):
            return None
        if self.stopping:
            return self.told_by_files(ticket, "")
        why = self.engine.ended(ticket.identity)
        log = self.engine.log(ticket.identity, ticket.place, ticket.job.number)
        return self.told_by_files(ticket, f"{why}\nits output: {log}")

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
        was_stopped = outcome.exit_code in (130, 143)
        if was_stopped and not self.stopping:
            outcome = self.cut_off(ticket, outcome)
        if not ticket.began and not was_stopped:
            self.begin(ticket)
        pruned = outcome.stopped and ticket.was_asked_to_stop
        if ticket.job.number in self.screen.running:
            self.screen.ended(ticket.job, describe(outcome, pruned=pruned), outcome.result)
        with self.screen.aside():
            self.task.end(ticket.job, outcome, pruned=pruned)
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

    # ------------------------------------------------------------------ the end

    def stop(self) -> None:
        """Those that run save and stop; those that wait stay as they are."""
        self.stopping = True
        ids = [ticket.identity for ticket in self.tickets.values() if ticket.identity]
        self.screen.say(f"stopping {in_words(len(ids))}: a checkpoint is saved first")
        self.engine.cancel(ids)
        for number in [n for n, ticket in self.tickets.items() if not ticket.identity]:
            del self.tickets[number]  # not ours to stop

    def leave(self) -> None:
        """This process is to end: the jobs need it no more."""
        count = in_words(len(self.tickets))
        self.screen.say(f"left alone: {count} of {self.engine.name}. To watch them again:")
        self.screen.say(f"  {self.task.go_on_by}")

    def say_what_goes_on(self) -> None:
        names = [ticket.job.directory for ticket in self.tickets.values()]
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            self.screen.say(f"handed over before, and under way: {', '.join(names[:3])}{more}")
        for ticket in self.tickets.values():
            if ticket.began:  # by another process, as its lock says
                self.screen.started(ticket.job, self.task.ledger.state(ticket.job.number).result)


def in_words(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
