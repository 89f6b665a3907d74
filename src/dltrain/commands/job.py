"""One training job, from a checked config to a finished run's directory; new, or going on."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

from dltrain import runs
from dltrain.build_data import read_data
from dltrain.claim import Claim
from dltrain.commands import console
from dltrain.commands.budget import BUDGETS
from dltrain.commands.failures import enough_memory, recorded_failures, storage_errors
from dltrain.commands.run import Job, Result, Run
from dltrain.commands.signals import Signals
from dltrain.config.check import select
from dltrain.config.monitors import check_monitor
from dltrain.durable import check_digest
from dltrain.effects import MAY_GO_ON
from dltrain.engine.plan import SIGNAL
from dltrain.errors import UserError
from dltrain.lifetime import nothing_collected


def run_job(job: Job, signals: Signals) -> Result:
    """Trains, tests, records. Raises DltrainError for any end but completion or a signal."""
    refuse_several_processes()
    check_device(job.config["trainer"])
    with Claim(job.run_dir, fresh=job.named_by_us) as claim:
        going_on = not claim.is_new and decide_to_go_on(job, claim.path)
        if going_on and (result := already_finished(job, claim.path)):
            return result
        if not going_on:
            check_weights_exist(job.config)
        with storage_errors():
            data = read_data(job.config, job.allowed, console.progress())
        num_val, monitor = len(data.splits["val"].targets), job.config["checkpoint"]["monitor"]
        check_monitor("checkpoint", monitor, num_val, None)  # before anything is decoded for it
        threads = job.config["trainer"]["threads"]
        if going_on and threads == "auto":  # with other threads, sums have other roundings
            threads = runs.read_if_whole(claim.path / runs.RECORD).get("threads", threads)
        with (
            signals.waiting(),
            nothing_collected(),
        ):  # a second or two, in which nothing should lie about
            import torch  # noqa: F401

        run_dir = claim.take()
        with storage_errors(), console.logging_to(run_dir) as open_log:
            with enough_memory():
                run = Run(job, run_dir, data, threads)
            signals.call(lambda number: run.trainer.stop(SIGNAL, number))
            try:
                run.open()
            except BaseException:
                run.trainer.close()
                with suppress(Exception):  # some of it has not been opened yet
                    run.close("failed")
                raise
            console.say_what_is_trained(job.config, job.choices, run.trainer, data, run.place.why)
            open_log()
            with recorded_failures(run):
                run.show_first_batch()
                run.trainer.fit()
                return run.conclude(signals)


def refuse_several_processes() -> None:
    if (os.environ.get("WORLD_SIZE") or "1") != "1":
        raise UserError(
            "several processes were started (torchrun), and this version trains in one\n"
            "start dltrain itself, on the device that you want: trainer.device=cuda:1"
        )


def decide_to_go_on(job: Job, run_dir: Path) -> bool:
    """Whether there is a run to continue; refuses to write over one that was not meant."""
    if not runs.holds_run(run_dir):
        return False
    runs.refuse_links(run_dir)
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


def changes(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Lines `key: old -> new` for what differs and may not."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        name, before, after = f"{prefix}{key}", old.get(key), new.get(key)
        if name in MAY_GO_ON or before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            lines += changes(before, after, f"{name}.")
        else:
            lines.append(f"{name}: {before} -> {after}")
    return lines


def already_finished(job: Job, run_dir: Path) -> Result | None:
    """A run that is completed, its budget unchanged, is said to be, and left alone."""
    summary = runs.read_if_whole(run_dir / runs.SUMMARY)
    keys = ("trainer.budget", *(f"trainer.{key}" for key in BUDGETS))
    old = runs.read_config(run_dir)
    same = all(select(old, key) == select(job.config, key) for key in keys)
    if summary.get("status") != "completed" or not same:
        return None
    other = changes(old, job.config)
    typed = "; what was typed changes nothing without a larger budget" if other else ""
    print(
        f"{run_dir} is completed ({summary.get('step')} steps){typed}. To train it for longer:\n"
        f"  dltrain resume {shlex.quote(str(run_dir))} trainer.max_epochs=..."
    )
    return Result(0, (summary.get("best") or {}).get("value"), run_dir)


def check_weights_exist(config: dict[str, Any]) -> None:
    if config["init_from"] is None:
        return
    path = Path(config["init_from"])
    if not path.exists():
        raise UserError(f"init_from: there is no file or folder {path}")
    if path.is_dir() and not (path / runs.WEIGHTS).is_file():
        raise UserError(f"init_from: the folder {path} holds no {runs.WEIGHTS}: no finished run")
    if path.is_dir():
        try:
            check_digest(path / runs.WEIGHTS, runs.read_json(path / runs.SUMMARY).get(runs.DIGEST))
        except (OSError, ValueError) as error:
            raise UserError(
                f"init_from: {path / runs.WEIGHTS} cannot be read: {error}\n"
                f"take one of the checkpoints in {path / runs.CHECKPOINTS}"
            ) from None


# Where drivers show their GPUs: NVIDIA's own, of its small boards, WSL, AMD
GPU_DEVICES = ("nvidia*", "nvhost*", "nvgpu", "nvmap", "dxg", "kfd")


def check_device(trainer: dict[str, Any]) -> None:
    """What needs a GPU on a machine that can have none is told before torch is imported."""
    if any(next(Path("/dev").glob(pattern), None) for pattern in GPU_DEVICES):
        return
    device, precision = trainer["device"], trainer["precision"]
    if device.startswith("cuda"):
        raise UserError(
            f"trainer.device is {device}, but this machine has no CUDA device; use cpu or auto"
        )
    if precision in ("fp16", "tf32"):
        raise UserError(
            f"trainer.precision is {precision}, which needs CUDA, and this machine has no CUDA "
            "device; on a CPU use bf16 or fp32"
        )
