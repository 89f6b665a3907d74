"""What a launcher needs of a cluster, and what `hydra.launcher` may say of one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from dltrain import cores
from dltrain.config.near import did_you_mean
from dltrain.config.rules import between, list_of, whole, whole_or_null
from dltrain.config.schema import Rule, truth
from dltrain.durable import irregular
from dltrain.errors import UserError

# Of `hydra.launcher` what is run by a shell, or says who unpickles what we send: never from a file
TYPED_ONLY = ("hydra.launcher.setup", "hydra.launcher.additional_parameters", "hydra.launcher.ray")
PLACE = ".cluster"  # below the sweep's directory: a folder for each time that jobs are handed over


class Engine(Protocol):
    """Who runs jobs elsewhere. An id is what the engine calls a job: text, kept in the ledger."""

    name: str
    outlives: bool  # its jobs go on when this process ends
    near: bool  # they are processes of this machine, whose end is seen at once
    shares_machine: bool  # nobody but us divides its cores and GPUs among them
    keeps_output: bool  # what they print is written down by it, and not by them
    poll_sec: float  # between two looks at them
    grace_sec: float  # one may be gone before the file is seen in which it says how it ended

    @property
    def limit(self) -> int | None:
        """How many jobs may be under way; None: all, for it has a queue of its own."""

    @property
    def at_a_time(self) -> int:
        """How many jobs it takes in one `submit`."""

    def submit(self, works: Sequence[Callable[[], Any]], place: Path) -> list[str]:
        """Hands the works over, whose logs go below `place`; their ids in order."""

    def alive(self, ids: Sequence[str]) -> dict[str, str]:
        """Those of `ids` that wait or run, each with a word for it (`PENDING`).

        Raises UserError where that cannot be told of one.
        """

    def ended(self, identity: str) -> str:
        """Why a job that left no result has ended, as far as the engine knows."""

    def cancel(self, ids: Sequence[str]) -> None:
        """Has those that run told to save and stop, and those that wait forgotten."""

    def log(self, identity: str, place: Path, number: int) -> Path:
        """Where the output of a job is that has no run's directory."""

    def forget(self, identity: str, place: Path) -> None:
        """Removes what the engine has left of a job that ended, but its log."""

    def close(self) -> None:
        """Gives back what this process holds of the engine."""


@dataclass(frozen=True)
class Share:
    """What a job gets of this machine; a cluster's scheduler knows better of its own.

    asked: `sweep.jobs` where it is a number; at_once: how many jobs run here at once.
    """

    asked: int | None
    at_once: int
    threads: int | None
    gpus: list[str] | None  # None: all jobs see all
    gpus_per_job: int

    @classmethod
    def of(cls, settings: Mapping[str, Any], jobs: Any) -> Share:
        asked = jobs if isinstance(jobs, int) else None
        num_cores, gpus, each = cores.given(), visible_gpus(), settings.get("gpus_per_node") or 0
        at_once = asked or max(1, num_cores // (settings.get("cpus_per_task") or 1))
        if each and asked is None and gpus:
            at_once = max(1, min(at_once, len(gpus) // each))
        threads = settings.get("cpus_per_task") or max(1, num_cores // at_once)
        return cls(asked, at_once, threads, gpus if each else None, each)

    def devices(self, slot: int) -> str | None:
        """CUDA_VISIBLE_DEVICES of the job in that slot."""
        if not self.gpus:
            return None
        first = slot * self.gpus_per_job
        return ",".join(self.gpus[(first + i) % len(self.gpus)] for i in range(self.gpus_per_job))


def visible_gpus() -> list[str]:
    """Without asking CUDA, which would take the device into this process."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [each for each in given.split(",") if each.strip()]
    return [str(n) for n, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def new_place(sweep: Path) -> Path:
    """An empty folder for jobs that are handed over; never one that was there.

    What lies in it is run on other machines: a sweep that a stranger has made may hold anything.
    """
    parent = sweep / PLACE
    parent.mkdir(exist_ok=True)
    if irregular(parent):
        raise UserError(f"{parent} is {irregular(parent)}; it must be a folder: remove it")
    taken = [int(path.name) for path in parent.iterdir() if re.fullmatch("[0-9]{1,9}", path.name)]
    for number in range(max(taken, default=0) + 1, 10**9):
        try:
            (parent / str(number)).mkdir()
        except FileExistsError:
            continue
        return parent / str(number)
    raise AssertionError("a billion folders")


def require(package: str, extra: str, launcher: str) -> None:
    spec = find_spec(package)
    if spec is None or spec.origin is None:  # a mere folder of that name is no package
        raise UserError(
            f"hydra/launcher={launcher} needs the package {package}: pip install 'dltrain[{extra}]'"
        )


def one_line(value: Any) -> str | None:
    """Text that becomes a line of a shell script, and cannot become two."""
    is_line = isinstance(value, str) and value.strip() and value.isprintable()
    return None if is_line else "it must be one line of text"


def nullable(rule: Rule) -> Rule:
    return lambda value: None if value is None else rule(value)


def parameters(value: Any) -> str | None:
    """Of sbatch: `{mail-type: END}`."""
    if not isinstance(value, dict):
        return "it must be a mapping of sbatch's options, such as {mail-type: END}"
    for name, each in value.items():
        if not re.fullmatch("[a-z][a-z_-]*", str(name)):
            return f"it has {name!r}, which is no name of an option of sbatch"
        if not isinstance(each, bool | int | float | None) and one_line(each):
            return f"its {name} must be a number, true, or one line of text"
    return None


def mapping(value: Any) -> str | None:
    return None if isinstance(value, dict) else "it must be a mapping"


ONE_PROCESS = "it must be 1: a job is one process on one machine"
SUBMITTED: dict[str, Rule] = {
    "timeout_min": whole(1, 10**6),
    "cpus_per_task": whole_or_null(1, 10**4),
    "gpus_per_node": whole_or_null(0, 64),
    "tasks_per_node": lambda value: None if value == 1 else ONE_PROCESS,
    "nodes": lambda value: None if value == 1 else ONE_PROCESS,
    "mem_gb": nullable(between(0, 10**6, without_ends=True)),
    "name": one_line,
    "stderr_to_stdout": truth,
    "signal_delay_s": whole(1, 10**5),
    "max_num_timeout": whole(0, 10**6),
}
SLURM: dict[str, Rule] = {
    **dict.fromkeys(
        ("partition", "qos", "comment", "constraint", "exclude", "gres", "account"),
        nullable(one_line),
    ),
    "cpus_per_gpu": whole_or_null(1, 10**4),
    "gpus_per_task": whole_or_null(0, 64),
    "mem_per_gpu": nullable(one_line),
    "mem_per_cpu": nullable(one_line),
    "array_parallelism": whole(1, 10**6),
    "max_array_size": whole(1, 10**6),
    "setup": nullable(list_of(one_line)),
    "additional_parameters": nullable(parameters),
}
RAY: dict[str, Rule] = {"ray.init": mapping, "ray.remote": mapping}
RULES = {"submitit_local": SUBMITTED, "submitit_slurm": SUBMITTED | SLURM, "ray": RAY}


def check_settings(launcher: str, settings: Mapping[str, Any]) -> None:
    """Raises UserError for a key of `hydra.launcher` that is unknown or out of its range."""
    known = {key.partition(".")[0] for key in RULES[launcher]}
    for name in settings.keys() - known - {"_target_"}:
        near = did_you_mean(name, known) or f"one of {', '.join(sorted(known))}"
        raise UserError(f"hydra/launcher={launcher} has no hydra.launcher.{name}; {near}")
    for key, rule in RULES[launcher].items():
        value: Any = settings
        for part in key.split("."):
            value = value[part] if isinstance(value, Mapping) and part in value else None
        wrong = rule(value)
        if wrong is not None:
            raise UserError(f"hydra.launcher.{key} is {value!r}; {wrong}")
    delay, minutes = settings.get("signal_delay_s"), settings.get("timeout_min")
    if isinstance(delay, int) and isinstance(minutes, int) and delay >= 60 * minutes:
        raise UserError(
            f"hydra.launcher.signal_delay_s is {delay}; it must be < hydra.launcher.timeout_min, "
            f"which is {60 * minutes} s, or a job is told to stop before it begins"
        )
