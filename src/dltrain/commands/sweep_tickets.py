"""A job of a sweep that was handed over: what its files tell, and how it is found again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain import plain, runs
from dltrain.claim import is_held
from dltrain.commands.sweep_node import STOP, TOLD, file_of, read_outcome
from dltrain.commands.sweep_task import SweepTask
from dltrain.sweeps.cluster import PLACE, Engine
from dltrain.sweeps.ledger import JobRecord

MAX_TOLD_BYTES = 1 << 20  # at a time: what a node tells of an evaluation has some hundred
NUMBERS = ("step", "epoch")


@dataclass
class Ticket:
    """identity: what its engine calls the job; nothing: another process runs it, as its lock says.

    place: the folder in which its node tells how it goes.
    """

    job: JobRecord
    identity: str
    place: Path
    slot: int = 0
    began: bool = False
    missed: float | None = None  # since when its engine has it no more
    heard: int = 0  # bytes of what its node has told

    def news(self) -> list[dict[str, Any]]:
        """The rows that its node has told since they were last asked for."""
        path = file_of(self.place, self.job.number, TOLD)
        try:
            with plain.open_regular(path) as file:
                file.seek(self.heard)
                data = file.read(MAX_TOLD_BYTES)
        except (OSError, plain.PlainError):
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self.heard += len(whole)
        rows = []
        for line in whole.splitlines():
            with suppress(ValueError, RecursionError):
                rows.append(json.loads(line))
        return [numbers_of(row) for row in rows if is_row(row)]

    def ask_to_stop(self, reason: str) -> None:
        """The node looks after each evaluation."""
        runs.write_json(file_of(self.place, self.job.number, STOP), {"reason": reason})

    @property
    def was_asked_to_stop(self) -> bool:
        return bool(self.identity) and file_of(self.place, self.job.number, STOP).exists()


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_row(row: Any) -> bool:
    if not isinstance(row, dict) or row.get("split") not in ("train", "val"):
        return False
    length = row.get("num_steps", "not told")
    known = length is None or is_number(length)  # None: only time ends the run
    return known and all(is_number(row.get(name)) for name in NUMBERS)


def numbers_of(row: dict[str, Any]) -> dict[str, Any]:
    numbers = {key: value for key, value in row.items() if key == "split" or is_number(value)}
    return {"num_steps": None} | numbers


def found_again(task: SweepTask, engine: Engine, jobs: Sequence[JobRecord]) -> dict[int, Ticket]:
    """Those of the jobs that an earlier start handed over, and that still wait or run."""
    earlier = [ticket for job in jobs if (ticket := last_ticket(task, engine, job))]
    alive = engine.alive([ticket.identity for ticket in earlier])
    found = {ticket.job.number: ticket for ticket in earlier if ticket.identity in alive}
    for job in jobs:
        run_dir = task.folder / job.directory
        if job.number not in found and not run_dir.is_symlink() and is_held(run_dir):
            found[job.number] = Ticket(job, "", run_dir, began=True)
    return found


def last_ticket(task: SweepTask, engine: Engine, job: JobRecord) -> Ticket | None:
    """As the ledger has it, unless its node has said how it ended."""
    for event in reversed(task.ledger.events.get(job.number, [])):
        if event.get("engine") != engine.name:
            continue
        identity, name = str(event.get("id", "")), str(event.get("place", ""))
        place = task.folder / PLACE / name
        is_known = re.fullmatch("[0-9]{1,9}", name) and re.fullmatch("[0-9_]{1,40}", identity)
        if not is_known or place.is_symlink() or read_outcome(place, job.number) is not None:
            return None
        return Ticket(job, identity, place) if place.is_dir() else None
    return None
