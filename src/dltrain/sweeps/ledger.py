"""What a sweep consists of: every job with its frozen config, and what became of it.

A sweep's directory holds `sweep.json` (what was asked for) and `jobs.jsonl`, which is only ever
appended to, by the one process that holds the directory: first a line a job, later a line an event.
Where a job's own directory holds a run, its state is read there: nothing here can go stale.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dltrain import plain, runs
from dltrain.claim import is_held
from dltrain.durable import irregular, naming, sync_file, sync_folder
from dltrain.errors import UserError
from dltrain.sweeps import ledger_lines as lines

PENDING, RUNNING, DONE, FAILED, PRUNED = "pending", "running", "done", "failed", "pruned"
STATES = (PENDING, RUNNING, DONE, FAILED, PRUNED)
FORMAT = 1
# Of sweep.json, half of which may be asked for when it begins: a list of settings for each of the
# greatest number of jobs, of some five lines each
MAX_ASKED_BYTES, MAX_ASKED_VALUES = 640 * lines.MAX_JOBS, 20 * lines.MAX_JOBS


@dataclass(frozen=True)
class JobRecord:
    """A job as it was composed, before the first one started: edits of yaml files change nothing.

    overrides: all of the job, as Hydra gave them; swept: of these what varies, key -> value as
    text; directory: its name below the sweep's; config: checked and resolved, what its config.yaml
    will hold; hydra_files: the content of `.hydra/`, by name.
    """

    number: int
    overrides: list[str]
    swept: dict[str, str]
    directory: str
    config: dict[str, Any]
    choices: dict[str, Any]
    hydra_files: dict[str, str]


@dataclass(frozen=True)
class JobState:
    """state: one of STATES; a job that was cut off is pending, at its `step`. result: the best
    value of `checkpoint.monitor` so far."""

    job: JobRecord
    state: str
    result: float | None = None
    reason: str = ""  # of a failure, as far as it is known
    step: int = 0
    seconds: float | None = None  # of training
    best_step: int | None = None


@dataclass
class Ledger:
    """Read it with `read_ledger`; write to it only while the sweep's directory is held."""

    folder: Path
    asked: dict[str, Any] = field(default_factory=dict)
    jobs: dict[int, JobRecord] = field(default_factory=dict)
    events: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def begin(
        self,
        asked: dict[str, Any],
        jobs: Sequence[JobRecord],
        events: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Records the first jobs, then `sweep.json`: with it the directory is a sweep's.

        A process that is killed in between leaves no sweep: none of its jobs has begun.
        """
        text = json.dumps(runs.finite(asked), indent=2)
        if len(text) > MAX_ASKED_BYTES // 2 or plain.count_values(text) > MAX_ASKED_VALUES // 2:
            raise UserError(
                f"what is asked of the sweep takes {len(text):,} bytes to record, and may take "
                f"{MAX_ASKED_BYTES // 2:,}; make the lists of the `sweep` node shorter"
            )
        (self.folder / runs.JOBS).unlink(missing_ok=True)
        self.add(jobs, events)
        self.ask(format=FORMAT, **asked)

    def ask(self, **changes: Any) -> None:
        """Changes what was asked for, such as the total number of trials."""
        self.asked |= changes
        runs.write_json(self.folder / runs.SWEEP, self.asked)

    def add(self, jobs: Sequence[JobRecord], events: Sequence[dict[str, Any]] = ()) -> None:
        """Records jobs that are new, and what is known of them; durable when it returns."""
        text = "".join(lines.written(asdict(job)) for job in jobs)
        path = self.folder / runs.JOBS
        size = len(text) + (path.stat().st_size if path.exists() else 0)
        if size > lines.MAX_RECORDED_BYTES:
            raise UserError(
                f"{path} would have {size:,} bytes, and may have {lines.MAX_RECORDED_BYTES:,}; "
                "take fewer jobs, in several sweeps"
            )
        self._note(text, events)
        self.jobs |= {job.number: job for job in jobs}

    def note(self, number: int, state: str, **facts: Any) -> None:
        """Records an event of a job: it began, failed (`reason`), was pruned, and so on."""
        self.note_all([{"number": number, "state": state, **facts}])

    def note_all(self, events: Sequence[dict[str, Any]]) -> None:
        """Records events of several jobs, each with its `number` and `state`, by one write."""
        self._note("", events)

    def _note(self, before: str, events: Sequence[dict[str, Any]]) -> None:
        assert all(event["state"] in STATES for event in events), events
        now = round(time.time(), 3)
        # In this order: it is how a line begins that is known to be ours when it is torn
        noted = [{"number": each["number"], "state": each["state"], "time": now} | each
                 for each in events]  # fmt: skip
        rows = [json.dumps(runs.finite(each), allow_nan=False) + "\n" for each in noted]
        self._append(before + "".join(rows))
        for event in noted:
            self.heard(event)

    def heard(self, event: dict[str, Any]) -> None:
        events = self.events.setdefault(event["number"], [])
        events.append(event)
        del events[: -lines.MAX_EVENTS]

    def state(self, number: int) -> JobState:
        return state_of(self.folder, self.jobs[number], self.events.get(number, []))

    def states(self) -> list[JobState]:
        return [self.state(number) for number in sorted(self.jobs)]

    def left(self, *, running: bool = False) -> list[JobRecord]:
        """Jobs that are not done: never begun, cut off, or failed; or `running` elsewhere."""
        over = (DONE, PRUNED) if running else (DONE, PRUNED, RUNNING)
        return [state.job for state in self.states() if state.state not in over]

    def _append(self, text: str) -> None:
        path = self.folder / runs.JOBS
        is_new = not path.exists()
        with naming(path, len(text)), open(path, "ab+") as file:
            lines.mend_end(file)
            file.write(text.encode())
            file.flush()
            sync_file(file, path)
        if is_new:
            sync_folder(self.folder)


# ---------------------------------------------------------------------- reading


def is_sweep(folder: Path) -> bool:
    return os.path.isfile(folder / runs.SWEEP)  # False also for what can be no path


def read_ledger(folder: Path) -> Ledger:
    """The ledger of a sweep that may come from anywhere. Raises UserError where it is damaged.

    What a killed process, or the power, has left of a last line is ignored.
    """
    path = folder / runs.SWEEP
    try:
        text = plain.read_text(path, MAX_ASKED_BYTES)
        asked = plain.parse_json(text, MAX_ASKED_VALUES)
    except plain.PLAIN_ERRORS as error:
        raise UserError(f"{path} cannot be read: {runs.reason(error)}") from None
    if not isinstance(asked, dict) or asked.get("format") != FORMAT:
        raise UserError(f"{path} is not what a sweep of this version of dltrain writes")
    ledger = Ledger(folder, asked)
    for place, data in lines.read_lines(folder / runs.JOBS):
        _take(ledger, data, f"{folder / runs.JOBS}, line {place}")
    missing = set(range(len(ledger.jobs))) - ledger.jobs.keys()
    if missing or not ledger.jobs:
        which = f"job {min(missing)}" if missing else "every job"
        raise UserError(f"{folder / runs.JOBS} is damaged: the record of {which} is missing")
    if len({job.directory for job in ledger.jobs.values()}) < len(ledger.jobs):
        raise UserError(f"{folder / runs.JOBS} is damaged: two jobs have the same directory")
    return ledger


def _take(ledger: Ledger, data: Any, where: str) -> None:
    if not isinstance(data, dict):
        raise UserError(f"{where} is not what a sweep writes")
    if "job" in data:
        lines.check_job(data["job"], where)
        job = JobRecord(**data["job"])
        ledger.jobs[job.number] = job
        return
    number, state = data.get("number"), data.get("state")
    if not runs.is_count(number) or number not in ledger.jobs or state not in STATES:
        raise UserError(f"{where} is not an event of a job of this sweep")
    ledger.heard(lines.event_of(data))


# ---------------------------------------------------------------------- states


def state_of(folder: Path, job: JobRecord, events: Sequence[dict[str, Any]]) -> JobState:
    """By the job's own run where there is one; else by what was noted of it."""
    run_dir = folder / job.directory
    last = events[-1] if events else {}
    reason = str(last.get("reason", "")) if last.get("state") == FAILED else ""
    if run_dir.is_symlink() or not runs.holds_run(run_dir):
        return JobState(job, FAILED if last.get("state") == FAILED else PENDING, reason=reason)
    try:
        summary = runs.read_json(run_dir / runs.SUMMARY)
    except UserError as error:
        return JobState(job, FAILED, reason=str(error))
    status = summary.get("status", "running")
    state = {"completed": DONE, "failed": FAILED}.get(status, PENDING)
    if status == "stopped" and last.get("state") == PRUNED:
        state = PRUNED
    if state == PENDING and last.get("state") == FAILED:
        state = FAILED  # its process was killed, and somebody saw it
    if state != DONE and is_held(run_dir):
        state = RUNNING
    best = summary.get("best") or {}
    result, seconds = _number(best.get("value")), _number(summary.get("wall_time_sec"))
    step, best_step = summary.get("step", 0), best.get("step")
    return JobState(
        job, state, result, reason if state == FAILED else "", step, seconds,
        best_step if runs.is_count(best_step) else None,
    )  # fmt: skip


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 1e300 else None


def refuse_foreign_runs(folder: Path) -> None:
    """A directory without a ledger that holds runs is somebody else's. Raises UserError."""
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir()):
        if not irregular(entry) and entry.is_dir() and runs.holds_run(entry):
            raise UserError(
                f"{entry} holds a run already, and {folder} is no sweep that could go on\n"
                "choose another hydra.sweep.dir"
            )
