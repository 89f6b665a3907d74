"""What is sent to another machine: the name of a job of a sweep, and how it is run there."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltrain import cores, plain, runs
from dltrain.commands.signals import SIGNALS
from dltrain.commands.sweep_job import Observe, Outcome, read_job, run_recorded
from dltrain.errors import DltrainError

BEGAN, TOLD, STOP, ENDED = "began.json", "told.jsonl", "stop.json", "ended.json"
SECONDS_BETWEEN_ROWS = 5.0  # of training: each is a write to a file server
REQUEUE = (signal.SIGUSR1, signal.SIGUSR2)  # of a scheduler: time is up, or the node is wanted


@dataclass
class NodeJob:
    """One job, by its number: the node reads the rest from the ledger in the sweep's directory.

    Whoever runs it pickles it: a class by its name, and plain data.
    """

    sweep: str  # absolute: the same on all machines
    number: int
    place: str  # the folder below the sweep's for what concerns this attempt
    cwd: str  # where the sweep was started: dataset.root=data is meant from there
    is_typed: bool  # the command that began the sweep; else nothing is sent where the ledger says
    argv: list[str] = field(default_factory=list)  # what was typed there, for run.json
    allowed: list[str] = field(default_factory=list)
    threads: int | None = None  # the job's share of the cores, where nobody else limits it
    devices: str | None = None  # CUDA_VISIBLE_DEVICES; None: as the node has it
    output: str | None = None  # a file for what is printed, where the engine keeps none
    stop_at: int | str | None = None  # where the sweep compares its jobs

    def __call__(self) -> int:
        os.chdir(self.cwd)
        place = Path(self.sweep) / self.place
        back = signal.getsignal(signal.SIGUSR2)  # submitit's: it puts the job back into the queue
        with ExitStack() as stack:
            if self.output is not None:
                file = stack.enter_context(open(self.output, "a", buffering=1, encoding="utf-8"))
                stack.enter_context(redirect_stdout(file))
                stack.enter_context(redirect_stderr(file))
            with SIGNALS.taken():
                outcome = self.run(place)
                asked = SIGNALS.all.intersection(REQUEUE)
        if asked and outcome.exit_code in (130, 143) and os.environ.get("SUBMITIT_EXECUTOR"):
            assert callable(back)
            try:
                back(signal.SIGUSR2, None)  # ends the process
            except Exception as error:
                outcome = outcome._replace(reason=" ".join(str(error).split()))
        runs.write_json(file_of(place, self.number), outcome._asdict())
        return outcome.exit_code

    def run(self, place: Path) -> Outcome:
        """From here on every end is an outcome, that of a signal included."""
        folder, here = Path(self.sweep), Path.cwd()
        if folder.is_relative_to(here):
            folder = folder.relative_to(here)  # shorter to read
        try:
            file_of(place, self.number).unlink(missing_ok=True)  # of the start before a preemption
            runs.write_json(file_of(place, self.number, BEGAN), {"host": os.uname().nodename})
            self.prepare()
            job = read_job(folder, self.number, self.allowed, is_typed=self.is_typed)
            observe = teller(place, self.number)
            return run_recorded(
                folder, job, self.allowed, SIGNALS, observe=observe, stop_at=self.stop_at
            )
        except SystemExit:  # a signal that came before there was anything to save
            return Outcome(SIGNALS.exit_code or 1, reason=f"stopped by {SIGNALS.name}")
        except Exception as error:
            if SIGNALS.exit_code:  # it came in the midst of OmegaConf, which made another of it
                return Outcome(SIGNALS.exit_code, reason=f"stopped by {SIGNALS.name}")
            code = error.exit_code if isinstance(error, DltrainError) else 1
            return Outcome(code, reason=str(error) or type(error).__name__)

    def prepare(self) -> None:
        """What the process is to be before torch is imported, which takes every core it sees."""
        sys.argv = list(self.argv)
        if "" not in sys.path:
            sys.path.append("")  # a module of the user's in the folder of the command
        engine, num_cores = os.environ.get("SUBMITIT_EXECUTOR"), self.threads
        if engine == "slurm":
            given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE")
            num_cores = int(given) if given and given.isdecimal() else None
        if num_cores is not None:
            cores.take_share(num_cores)
            os.environ.setdefault("OMP_NUM_THREADS", str(num_cores))
        if self.devices is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.devices
        elif engine == "local":  # submitit hides all where it was asked for none
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)

    def checkpoint(self) -> Any:
        """For submitit, before it puts the job back: the same again goes on from its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def teller(place: Path, number: int) -> Observe:
    """Writes down how the job goes, and after an evaluation looks whether it is to stop.

    It does not wait for an answer: whoever started the sweep may be gone.
    """
    told = -SECONDS_BETWEEN_ROWS

    def observe(event: dict[str, Any]) -> str | None:
        nonlocal told
        now = time.monotonic()
        if event["split"] == "train" and now - told < SECONDS_BETWEEN_ROWS:
            return None
        told = now
        line = json.dumps(runs.finite(event), allow_nan=False)
        with suppress(OSError), open(file_of(place, number, TOLD), "a") as file:
            file.write(line + "\n")
        return read_stop(place, number) if event["split"] == "val" else None

    return observe


def read_stop(place: Path, number: int) -> str | None:
    try:
        data = plain.read_json(file_of(place, number, STOP))
    except plain.PLAIN_ERRORS:
        return None
    return str(data["reason"]) if isinstance(data, dict) and data.get("reason") else None


def file_of(place: Path, number: int, kind: str = ENDED) -> Path:
    return place / f"{number}.{kind}"


def read_outcome(place: Path, number: int) -> Outcome | None:
    """How the job has ended by its node's account; None where that has not written one."""
    file = file_of(place, number)
    try:
        data = plain.read_json(file)
    except FileNotFoundError:
        return None
    except plain.PLAIN_ERRORS as error:
        return Outcome(1, reason=f"{file} cannot be read: {runs.reason(error)}")
    if not isinstance(data, dict) or not runs.is_count(data.get("exit_code")):
        return Outcome(1, reason=f"{file} is not what a job writes")
    result, reason = data.get("result"), data.get("reason")
    return Outcome(
        min(data["exit_code"], 255),
        result if isinstance(result, float) else None,
        reason[:4000] if isinstance(reason, str) else "",
        data.get("stopped") is True,
    )
