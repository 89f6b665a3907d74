"""One training job, from a checked config to a finished run's directory; new, or going on."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dltrain import runs
from dltrain.build_data import read_data
from dltrain.commands import console
from dltrain.commands.run import Job, Result, Run
from dltrain.commands.signals import Signals
from dltrain.config.check import select
from dltrain.errors import NO_PERMISSION, NO_SPACE, DltrainError, NonFiniteError, UserError

log = logging.getLogger("dltrain")


def run_job(job: Job, signals: Signals) -> Result:
    """Trains, tests, records. Raises DltrainError for any end but completion or a signal."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(
            "several processes were started (torchrun), and this version trains in one\n"
            "start dltrain itself, on the device that you want: trainer.device=cuda:1"
        )
    with runs.Claim(job.run_dir, fresh=job.named_by_us) as claim:
        run_dir = claim.path
        going_on = decide_to_go_on(job, run_dir)
        if going_on and (result := already_finished(job, run_dir)):
            return result
        if not going_on:
            check_weights_exist(job.config)
        with storage_errors():
            data = read_data(job.config, job.allowed, console.download_progress())
        threads = job.config["trainer"]["threads"]
        if going_on and threads == "auto":  # with other threads, sums have other roundings
            threads = runs.read_json(run_dir / runs.RECORD).get("threads", threads)
        with console.logging_to(run_dir) as open_log, storage_errors():
            run = Run(job, run_dir, data, threads)
            console.say_what_is_trained(job.config, job.choices, run.trainer, data)
            try:
                run.open()
            except BaseException:
                run.trainer.close()
                raise
            open_log()
            signals.on_stop = lambda number: run.trainer.stop("signal", number)
            with recorded_failures(run):
                run.show_first_batch()
                run.trainer.fit()
                return run.conclude(signals)


@contextmanager
def recorded_failures(run: Run) -> Iterator[None]:
    """A run that fails says so in its summary; the traceback of a fault goes to `train.log`."""
    try:
        yield
    except BaseException as caught:
        with suppress(Exception):  # a second failure must not hide the first
            run.trainer.close()
        error = run.describe_nonfinite(caught) if isinstance(caught, NonFiniteError) else caught
        expected = isinstance(error, DltrainError) or is_storage_error(error)
        log.debug("%s", error if expected else traceback.format_exc())
        with suppress(OSError):
            run.save_summary("failed")
            run.close("failed")
        if expected or not isinstance(error, Exception):
            raise error from caught.__cause__
        last = traceback.format_exception_only(error)[-1].strip()
        raise DltrainError(f"{last}\nthe traceback is in {run.dir / runs.LOG}") from error


def decide_to_go_on(job: Job, run_dir: Path) -> bool:
    """Whether there is a run to continue; refuses to write over one that was not meant."""
    if not runs.holds_run(run_dir):
        return False
    if job.resume:
        return True
    if job.config["resume"] != "auto":
        raise UserError(
            f"{run_dir} holds a run already\n"
            f"continue it with `dltrain resume {run_dir}` or resume=auto, or choose another"
        )
    changed = changes(runs.read_config(run_dir), job.config)
    if changed:
        raise UserError(
            "\n".join(
                [
                    f"resume=auto: the config differs from that of {run_dir}:",
                    *changed[:4],
                    f"to change it on purpose, type it after `dltrain resume {run_dir}`",
                ]
            )
        )
    return True


# What may change when a run goes on: budget, logging, placement
FREE_KEYS = (
    "name",
    "resume",
    "trainer.budget",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.log_every",
    "trainer.device",
    "loader.num_workers",
    "loader.placement",
    "dataset.root",
    "dataset.download",
    "loggers",
    "callbacks.progress",
    "callbacks.profiler",
    "checkpoint.every",
    "checkpoint.keep",
)


def changes(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Lines `key: old -> new` for what differs and may not."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        name, before, after = f"{prefix}{key}", old.get(key), new.get(key)
        if name in FREE_KEYS or before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            lines += changes(before, after, f"{name}.")
        else:
            lines.append(f"{name}: {before} -> {after}")
    return lines


def already_finished(job: Job, run_dir: Path) -> Result | None:
    """A run that is completed, its budget unchanged, is said to be, and left alone."""
    summary = runs.read_json(run_dir / runs.SUMMARY)
    keys = ("trainer.budget", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time")
    old = runs.read_config(run_dir)
    same = all(select(old, key) == select(job.config, key) for key in keys)
    if summary.get("status") != "completed" or not same:
        return None
    typed = "" if old == job.config else "; what was typed changes nothing without a larger budget"
    print(
        f"{run_dir} is completed ({summary['step']} steps){typed}: "
        "to go on, give it one, such as trainer.max_epochs=..."
    )
    return Result(0, (summary.get("best") or {}).get("value"), run_dir)


def check_weights_exist(config: dict[str, Any]) -> None:
    path = config["init_from"]
    if path is not None and not Path(path).exists():
        raise UserError(f"init_from: there is no file or folder {path}")


@contextmanager
def storage_errors() -> Iterator[None]:
    """A disk that is full or may not be written, wherever it shows, is exit code 5."""
    try:
        yield
    except OSError as error:
        if is_storage_error(error):
            raise runs.storage_error(error) from error
        raise


def is_storage_error(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (*NO_SPACE, *NO_PERMISSION)
