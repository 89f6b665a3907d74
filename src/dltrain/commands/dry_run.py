"""`dltrain train --dry-run`: what would be trained, job by job; nothing is trained or written."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain import build
from dltrain.build_data import check_loading, read_data
from dltrain.commands import console
from dltrain.commands.failures import storage_errors
from dltrain.commands.job import check_device, check_weights_exist
from dltrain.errors import UserError
from dltrain.sweeps.names import readable, short_keys
from dltrain.sweeps.table import MAX_CELL, SPACE, cut


@dataclass(frozen=True)
class Planned:
    """A job that would run: its config, checked; `state` where it has been run, or begun; is_over:
    it is not run again; problem: why it cannot be a job."""

    number: int
    swept: dict[str, str]
    directory: str
    config: dict[str, Any]
    state: str = ""
    is_over: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Length:
    """Of a run: its steps are None where only time ends it; `problem`: why it would not begin."""

    steps: int | None = None
    epochs: float = 0
    seconds: float = math.inf
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return "cannot run"
        if self.steps is None:
            return f"for {self.seconds:g} s"
        until = f", {self.seconds:g} s at most" if math.isfinite(self.seconds) else ""
        epochs = f"{self.epochs:.3g} epoch{'' if self.epochs == 1 else 's'}"
        return f"{self.steps:,} steps, {epochs}{until}"


class Lengths:
    """Reads each dataset once, and no torch: how long is a run on it?"""

    def __init__(self, allowed: Sequence[str]) -> None:
        self.allowed = allowed
        self._train: dict[str, Any] = {}

    def of(self, job: Planned) -> Length:
        if job.is_over or job.problem:
            return Length(problem=job.problem)
        try:
            check_device(job.config["trainer"])
            check_weights_exist(job.config)
            return self.measured(job.config)
        except UserError as error:
            return Length(problem=str(error))

    def measured(self, config: dict[str, Any]) -> Length:
        limit = config["loader"] if config["loader"]["limit_batches"] is not None else None
        key = json.dumps([config["dataset"], limit], sort_keys=True, default=str)
        if key not in self._train:
            with storage_errors():
                data = read_data(config, self.allowed, console.progress(), for_training=False)
            self._train[key] = data.splits["train"]
        train = self._train[key]
        check_loading(train, config)
        size = config["loader"]["batch_size"]
        whole, rest = divmod(len(train.targets), size)
        per_epoch = whole + bool(rest and not config["loader"]["drop_last"])
        plan = build.make_plan(config, per_epoch)
        epochs = (plan.num_steps or 0) / per_epoch
        return Length(plan.num_steps, epochs, plan.max_time_sec)


def say_plan(jobs: Sequence[Planned], folder: Path, allowed: Sequence[str]) -> int:
    """Prints a line a job and the sum; the exit code is 2 if one of them could not begin."""
    lengths = Lengths(allowed)
    found = [lengths.of(job) for job in jobs]
    names = short_keys({key: None for job in jobs for key in job.swept})
    rows = []
    for job, length in zip(jobs, found, strict=True):
        varies = [f"{names[key]}={readable(value)}" for key, value in job.swept.items()]
        state = f"{length} ({job.state})" if job.state else str(length)
        state = job.state if job.is_over else state
        rows.append([str(job.number), "  ".join(varies), state, job.directory])
    print("\n".join(table_lines(rows, screen_width())))
    reasons: dict[str, list[str]] = {}
    for job, length in zip(jobs, found, strict=True):
        if length.problem:
            reasons.setdefault(length.problem, []).append(str(job.number))
    for reason, numbers in reasons.items():
        print(f"\n{', '.join(numbers)} cannot run: {reason}")
    todo = [length for job, length in zip(jobs, found, strict=True) if not job.is_over]
    steps = sum(length.steps or 0 for length in todo)
    timed = sum(length.steps is None and not length.problem for length in todo)
    bad = sum(bool(length.problem) for length in todo)
    parts = [f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}"]
    parts += [f"{len(jobs) - len(todo)} of them over"] if len(todo) < len(jobs) else []
    parts += [f"{steps:,} steps in all" + (f", {timed} limited by time alone" if timed else "")]
    parts += [f"{bad} cannot run"] if bad else []
    print(f"\n{', '.join(parts)}; nothing was trained or written\nbelow      {folder}")
    return UserError.exit_code if bad else 0


def table_lines(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Number, what varies, length and directory below one another; the number to the right.

    At most `width` columns wide where that is given: then without the directory, which says again
    what varies, and where that is too long without the length, the sum of which stands below.
    """
    shown = [index for index in range(4) if any(row[index] for row in rows)]
    widths = [max(len(row[index]) for row in rows) for index in range(4)]
    if width is not None and 1 in shown:
        shown.remove(3)
        room = {
            kept: width - sum(widths[index] + len(SPACE) for index in kept)
            for kept in ((0, 2), (0,))
        }
        kept = (0, 2) if room[0, 2] >= min(widths[1], MAX_CELL) else (0,)
        shown = [index for index in shown if index == 1 or index in kept]
        widths[1] = max(0, min(widths[1], room[kept]))
    lines = []
    for row in rows:
        cells = [cut(row[index], widths[index]) for index in shown[1:]]
        padded = [cell.ljust(widths[index]) for index, cell in zip(shown[1:], cells, strict=True)]
        lines.append(SPACE.join([row[0].rjust(widths[0]), *padded]).rstrip())
    return [line if width is None else cut(line, width) for line in lines]


def screen_width() -> int | None:
    """None through a pipe, whose reader gets everything."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if is_terminal else None
