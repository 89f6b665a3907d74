"""`hydra/sweeper=halving`: all jobs of a grid train a little, and the best of them go on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dltrain import runs
from dltrain.commands.budget import BUDGETS
from dltrain.commands.sweep_grid import grid_jobs
from dltrain.commands.sweep_task import SweepTask
from dltrain.config.durations import EPOCHS, SECONDS, STEPS, parse_duration
from dltrain.errors import UserError
from dltrain.sweeps import ledger as states
from dltrain.sweeps.evaluations import Evaluation, read_evaluations
from dltrain.sweeps.halving import Decisions, Rung, halve, rungs_of
from dltrain.sweeps.ledger import JobRecord, JobState


def halving_sweep(sweeper: Any, arguments: Sequence[str]) -> Any:
    """Records all jobs, then runs rung after rung. Returns what the last launch returned."""
    task: SweepTask = sweeper.task_function
    refuse_launcher(sweeper.launcher, "hydra/sweeper=halving")
    if task.goes_on:
        overrides = [job.overrides for _, job in sorted(task.ledger.jobs.items())]
    else:
        overrides = grid_jobs(sweeper, arguments)
    settings = task.settings["halving"]

    def examine(jobs: Sequence[JobRecord]) -> None:
        agreed(jobs)
        refuse_a_late_rung(settings["first"], jobs)

    task.examine = examine
    rungs = rungs_of(len(overrides), settings["first"], settings["eta"])
    task.only = set()  # recorded, and not yet run
    returned = sweeper.launcher.launch(overrides, 0)
    for number, rung in enumerate(rungs, 1):
        print(f"rung {number}     after {rung.text} the best {rung.keep} go on")
    if task.dry_run:
        return [returned]
    jobs = sorted(task.ledger.jobs)
    rungs_under_way = Rungs(task, sweeper.launcher, overrides)
    halve(
        jobs,
        Decisions(task.folder, rungs, jobs),
        advance=rungs_under_way.advance,
        value_at=rungs_under_way.value_at,
        drop=rungs_under_way.drop,
        mode=rungs_under_way.mode,
    )
    return [rungs_under_way.returned or returned]


def refuse_launcher(launcher: Any, what: str) -> None:
    if not getattr(launcher, "stops_jobs", False):
        raise UserError(
            f"{what} stops jobs on their way, which {type(launcher).__name__} cannot do; take "
            "hydra/launcher=local or hydra/launcher=basic"
        )


def refuse_a_late_rung(first: str, jobs: Sequence[JobRecord]) -> None:
    """One at which a job is over stops nothing; told where both are counted in the same."""
    duration = parse_duration(first, (STEPS, EPOCHS))
    key = {EPOCHS: "max_epochs", STEPS: "max_steps"}[duration.unit]
    for job in jobs:
        trainer = job.config["trainer"]
        length = trainer[key]
        if not any(trainer[name] for name in BUDGETS):
            budget = parse_duration(trainer["budget"], (STEPS, EPOCHS, SECONDS))
            length = budget.amount if budget.unit == duration.unit else None
        if length is not None and duration.amount >= length:
            raise UserError(
                f"sweep.halving.first is {first}, and job {job.number} trains {length:g} "
                f"{duration.unit}: nothing would be stopped; give less"
            )


class Rungs:
    """What the algorithm asks for, by the launcher and the files of the runs."""

    def __init__(self, task: SweepTask, launcher: Any, overrides: list[list[str]]) -> None:
        self.task, self.launcher, self.overrides = task, launcher, overrides
        self.monitor, self.mode = agreed(task.ledger.jobs.values())
        self.tried: set[int] = set()  # by this process: what has failed is not run for each rung
        self.returned: Any = None

    def advance(self, jobs: list[int], rung: Rung | None) -> bool:
        """Runs those that are not there yet; False where some still are not, or where one has
        failed and that is to end the sweep."""
        todo = {job for job in jobs if not self.is_there(job, rung)}
        if todo:
            self.tried |= todo
            self.task.only = todo
            self.task.stop_at = rung.text if rung else None
            self.returned = self.launcher.launch(self.overrides, 0)
        is_over = self.task.settings["on_error"] == "stop" and any(map(self.has_failed, self.tried))
        return not is_over and all(self.is_there(job, rung) for job in jobs)

    def has_failed(self, job: int) -> bool:
        return self.task.ledger.state(job).state == states.FAILED

    def is_there(self, job: int, rung: Rung | None) -> bool:
        """It has come to the rung and saved its checkpoint there; or it has ended."""
        state = self.task.ledger.state(job)
        if state.state == states.FAILED:
            return job in self.tried
        if state.state in (states.DONE, states.PRUNED):
            return True
        return rung is not None and self.is_stopped(state) and rung.reached(self.curve(job))

    def is_stopped(self, state: JobState) -> bool:
        path = self.task.folder / state.job.directory / runs.SUMMARY
        return runs.read_if_whole(path).get("status") == "stopped"

    def curve(self, job: int) -> list[Evaluation]:
        directory = self.task.ledger.jobs[job].directory
        return read_evaluations(self.task.folder / directory, self.monitor)

    def value_at(self, job: int, rung: Rung) -> float | None:
        if self.has_failed(job):
            return None
        return rung.value(self.curve(job), self.mode)

    def drop(self, jobs: Sequence[int], rung: Rung) -> None:
        """Those that do not go on are pruned; `dltrain resume RUN` still continues one."""
        for job in jobs:
            if self.task.ledger.state(job).state == states.PENDING:
                reason = f"after {rung.text} it was not among the best {rung.keep}"
                self.task.ledger.note(job, states.PRUNED, reason=reason)


def agreed(jobs: Iterable[JobRecord]) -> tuple[str, str]:
    """`checkpoint.monitor` and its mode. Raises UserError where jobs do not agree."""
    nodes = [job.config["checkpoint"] for job in jobs]
    found = sorted({(str(node["monitor"]), str(node["mode"])) for node in nodes})
    if len(found) > 1:
        raise UserError(
            "jobs are compared by checkpoint.monitor, which must be the same for all, and so must "
            "checkpoint.mode; here they have "
            + " and ".join(f"{monitor} ({mode})" for monitor, mode in found[:3])
        )
    return found[0]
