"""Synchronous successive halving: all jobs train a little, the best 1/eta go on, and so on.

Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization,
2016. Which jobs go on is a function of their curves alone: not of how many run at once, of how
often the sweep was stopped, or of what finished first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain import plain, runs
from dltrain.config.durations import EPOCHS, STEPS, parse_duration
from dltrain.errors import UserError
from dltrain.sweeps.evaluations import Evaluation
from dltrain.sweeps.ledger_lines import MAX_JOBS

RECORD = "halving.json"  # in the sweep's directory
# A value and a number of each job that is left, in rungs of at most half of them each time
MAX_RECORD_BYTES, MAX_RECORD_VALUES = 200 * MAX_JOBS, 6 * MAX_JOBS


@dataclass(frozen=True)
class Rung:
    """How far jobs train before they are compared, and how many of them then go on."""

    length: int
    unit: str  # epochs or steps
    keep: int

    @property
    def text(self) -> str:
        """As a duration is typed: `3 epochs`."""
        return f"{self.length} {self.unit if self.length > 1 else self.unit.removesuffix('s')}"

    def reached(self, curve: Sequence[Evaluation]) -> bool:
        return any(self.position(row) >= self.length for row in curve)

    def value(self, curve: Sequence[Evaluation], mode: str) -> float | None:
        """The best until here, whatever the run did later; None where nothing was finite."""
        best = max if mode == "max" else min
        values = []
        for row in curve:
            if row.value is not None:
                values.append(row.value)
            if self.position(row) >= self.length:
                break
        return best(values, default=None)

    def position(self, row: Evaluation) -> int:
        return row.epoch if self.unit == EPOCHS else row.step


def rungs_of(num_jobs: int, first: str, eta: int) -> list[Rung]:
    """Where jobs are compared: after `first`, `eta` times that, and so on, until one is left."""
    duration = parse_duration(first, (STEPS, EPOCHS))
    length, found = round(duration.amount), []
    while num_jobs > 1:
        num_jobs = max(1, num_jobs // eta)
        found.append(Rung(length, duration.unit, num_jobs))
        length *= eta
    return found


def best_of(values: Mapping[int, float | None], keep: int, mode: str) -> list[int]:
    """The numbers of the best `keep` jobs, ascending; of equals the first. None never goes on."""
    sign = -1.0 if mode == "max" else 1.0
    ranked = sorted((sign * value, job) for job, value in values.items() if value is not None)
    return sorted(job for _, job in ranked[:keep])


class Decisions:
    """`halving.json`: who went on, written before they do, so that a sweep that was killed decides
    nothing twice: later, a curve may be longer, or a job that failed may have been mended."""

    def __init__(self, folder: Path, rungs: Sequence[Rung], jobs: Sequence[int]) -> None:
        self.path, self.rungs = folder / RECORD, rungs
        self.made: list[dict[str, Any]] = []
        for rung, entry in zip(rungs, self.read(), strict=False):
            if not is_decision(entry, rung, jobs):
                raise UserError(
                    f"{self.path} does not fit this sweep: its rung {len(self.made) + 1} is not "
                    f"that of {len(jobs)} jobs after {rung.text}; remove it to decide again"
                )
            self.made.append(entry)
            jobs = entry["go_on"]

    def read(self) -> list[Any]:
        try:
            text = plain.read_text(self.path, MAX_RECORD_BYTES)
            data = plain.parse_json(text, MAX_RECORD_VALUES)
        except FileNotFoundError:
            return []
        except plain.PLAIN_ERRORS as error:
            raise UserError(f"{self.path} cannot be read: {runs.reason(error)}") from None
        entries = data.get("rungs") if isinstance(data, dict) else None
        return entries if isinstance(entries, list) else []

    def add(self, rung: Rung, values: Mapping[int, float | None], go_on: Sequence[int]) -> None:
        entry = {
            "after": rung.text,
            "values": {str(job): value for job, value in values.items()},
            "go_on": list(go_on),
        }
        self.made.append(entry)
        runs.write_json(self.path, {"rungs": self.made})


def is_decision(entry: Any, rung: Rung, jobs: Sequence[int]) -> bool:
    if not isinstance(entry, dict) or entry.get("after") != rung.text:
        return False
    values, go_on = entry.get("values"), entry.get("go_on")
    known = isinstance(values, dict) and set(values) == set(map(str, jobs))
    left = set(jobs)
    return (
        known
        and isinstance(go_on, list)
        and all(runs.is_count(job) and job in left for job in go_on)
    )


# Trains these jobs to the rung, or to their end; False where it was stopped before all were there
Advance = Callable[[list[int], Rung | None], bool]


def halve(
    jobs: Sequence[int],
    decisions: Decisions,
    *,
    advance: Advance,
    value_at: Callable[[int, Rung], float | None],
    drop: Callable[[list[int], Rung], None],
    mode: str,
) -> list[int]:
    """Runs all rungs, and the winner to its end. Returns the jobs that were still in it last.

    `advance` skips what has got there already. `value_at`: None for a job that failed. `drop` hears
    of those that do not go on, at every start again.
    """
    left = list(jobs)
    for index, rung in enumerate(decisions.rungs):
        if index == len(decisions.made):
            if not advance(left, rung):
                return left
            values = {job: value_at(job, rung) for job in left}
            decisions.add(rung, values, best_of(values, rung.keep, mode))
        go_on = decisions.made[index]["go_on"]
        stays = set(go_on)
        drop([job for job in left if job not in stays], rung)
        left = go_on
    advance(left, None)
    return left
