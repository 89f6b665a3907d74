"""One recorded job of a sweep, in this process: begun, or gone on with from its own checkpoint."""

from __future__ import annotations

import copy
import logging
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dltrain import runs
from dltrain.commands.checked import checked
from dltrain.commands.job import run_job
from dltrain.commands.run import Job
from dltrain.commands.signals import Signals
from dltrain.config.messages import shorten, type_error
from dltrain.config.schema import TrainConfig
from dltrain.durable import irregular
from dltrain.errors import DltrainError, UserError
from dltrain.plain import printable
from dltrain.stored import refuse_interpolations, sent_elsewhere, stay_at_home
from dltrain.sweeps.ledger import JobRecord, read_ledger

log = logging.getLogger("dltrain")
# Called at every log and evaluation of a job; a text that it returns is the reason to prune it
Observe = Callable[[dict[str, Any]], str | None]
# The same of a sweeper, for any of its jobs: called after each evaluation
Judge = Callable[[JobRecord, dict[str, Any]], str | None]


class Outcome(NamedTuple):
    """How a job ended. exit_code: of the contract; result: the best value of `checkpoint.monitor`;
    reason: what the user reads of a failure, or why it was pruned; stopped: it was told to stop."""

    exit_code: int
    result: float | None = None
    reason: str = ""
    stopped: bool = False


def run_recorded(
    folder: Path,
    job: JobRecord,
    allowed: list[str],
    signals: Signals,
    *,
    observe: Observe | None = None,
    stop_at: int | str | None = None,
) -> Outcome:
    """Runs the job to its end; what goes wrong is in the outcome, and in the run's own files.

    observe: called with {"step", "num_steps", "epoch", "split", "loss/val", ...} at every log and
    evaluation; a reason that it gives stops the run after this evaluation, its checkpoint saved and
    nothing tested: its status is `stopped`, and it can go on. stop_at: an optimizer step, or a
    duration such as `3 epochs`, at which the same happens, after an evaluation; the schedule still
    sees the whole budget.
    """
    run_dir = folder / job.directory
    signals.on_stop = None  # that of a job before
    wanted = Job(
        run_dir=run_dir,
        config=job.config,
        choices=dict(job.choices),
        hydra_files=job.hydra_files,
        named_by_us=False,
        allowed=allowed,
        resume=runs.holds_run(run_dir),
        observe=observe,
        stop_at=stop_at,
    )
    try:
        result = run_job(wanted, signals)
    except DltrainError as error:
        return Outcome(error.exit_code, reason=str(error))
    except Exception as error:
        traceback.print_exception(error)
        last = traceback.format_exception_only(error)[-1].strip()
        return Outcome(1, reason=last)
    return Outcome(result.exit_code, result.best, result.stopped, bool(result.stopped))


def judged_by(judge: Judge | None, job: JobRecord, pruned: set[int]) -> Observe | None:
    """Of a job in this process; its number is added to `pruned` where it is stopped."""
    if judge is None:
        return None

    def observe(event: dict[str, Any]) -> str | None:
        reason = judge(job, event) if event["split"] == "val" else None
        pruned.update([job.number] if reason else [])
        return reason

    return observe


def read_job(folder: Path, number: int, allowed: list[str], *, is_typed: bool) -> JobRecord:
    """A job as the sweep's directory has it, checked: anybody may have written there."""
    ledger = read_ledger(folder)
    if number not in ledger.jobs:
        raise UserError(f"{folder} has no job {number}")
    return trusted(folder, ledger.jobs[number], allowed, is_typed=is_typed)


def trusted(folder: Path, job: JobRecord, allowed: list[str], *, is_typed: bool) -> JobRecord:
    """The job with its config checked as that of a run: plain data, and allowed targets; and its
    directory no way to another place.

    is_typed: the command that it comes from has been typed; else what writes elsewhere or sends
    to somebody is left out.
    """
    where, data = folder / runs.JOBS, copy.deepcopy(job.config)
    refuse_another_place(folder / job.directory)
    refuse_interpolations(data, where)
    if not is_typed:
        keep_at_home(data, job.number)
    try:
        cfg = OmegaConf.merge(OmegaConf.structured(TrainConfig), data)
    except OmegaConfBaseException as error:
        raise UserError(f"{where}, job {job.number}: {type_error(error)}") from error
    assert isinstance(cfg, DictConfig)
    try:
        config = checked(cfg, allowed=allowed)
    except UserError as error:
        raise UserError(f"{where}, job {job.number}: {error}") from error
    return JobRecord(**{**vars(job), "config": config})


def refuse_another_place(run_dir: Path) -> None:
    """What a job writes through a link is wherever that leads to."""
    kind = irregular(run_dir) if os.path.lexists(run_dir) else None
    if kind:
        raise UserError(
            f"{run_dir} is {kind}; a job is trained in a folder of the sweep's own\n"
            "remove it, or put what it stands for in its place"
        )


def keep_at_home(config: dict[str, Any], number: int) -> None:
    """Takes out of the config what nobody has typed, and says so."""
    for name, key, value in sent_elsewhere(config):
        full = f"loggers.{printable(str(name))}.{key}, {shorten(repr(value), 150)}"
        print(
            f"note       job {number}: the recorded {full}, is used only where the command "
            "that began the sweep is typed again"
        )
    stay_at_home(config)
