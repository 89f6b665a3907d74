"""`hydra/sweeper=optuna`: what is tried next is made of what came out of the trials before."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dltrain import runs
from dltrain.commands.sweep_grid import ComposedFacts
from dltrain.commands.sweep_halving import agreed, refuse_launcher
from dltrain.commands.sweep_refused import is_refused, record_trials
from dltrain.commands.sweep_search_space import (
    check_ends,
    check_trial,
    ends,
    read_space,
    stored_space,
)
from dltrain.commands.sweep_task import SweepTask
from dltrain.errors import UserError
from dltrain.sweeps import ledger as states
from dltrain.sweeps.chooser import Chooser
from dltrain.sweeps.evaluations import read_evaluations
from dltrain.sweeps.ledger import JobRecord
from dltrain.sweeps.objectives import objectives_of, values_of
from dltrain.sweeps.search import JOURNAL, Search, import_optuna
from dltrain.sweeps.search_space import parameters_of
from dltrain.sweeps.space import Space

COMMON = ("checkpoint", "trainer")
NUM_LISTED = 4  # trials of a dry run; so many are drawn at random by any sampler


def search_sweep(sweeper: Any, arguments: Sequence[str]) -> Any:
    """Asks for trials and runs them, batch after batch. Returns what the launches returned."""
    import_optuna()
    task: SweepTask = sweeper.task_function
    settings = task.settings
    if task.goes_on:
        arguments, settings = stored_space(task)
        task.asked = {**task.asked, "hydra": []}  # of a file: not for jobs that are new
    optuna = settings["optuna"]
    refuse_foreign(sweeper.launcher)
    if optuna["pruner"] != "none" and not task.dry_run:
        refuse_launcher(sweeper.launcher, f"sweep.optuna.pruner={optuna['pruner']}")
    with ExitStack() as stack:
        facts = stack.enter_context(ComposedFacts(task))
        space, terms = read_space(sweeper, facts, arguments, settings)
        chooser = Chooser(space, facts)
        if task.goes_on:
            task.fixed = {term.bare_key for term in space.typed if not term.is_swept}
        common = common_config(task, space, facts)
        monitor, mode = (str(common["checkpoint"][key]) for key in ("monitor", "mode"))
        if task.dry_run:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            task.hold()
            folder = task.folder
            stack.callback(forget_unless_recorded, task)
        parameters = parameters_of(space, chooser, terms)
        if not task.ledger.jobs:
            check_ends(task, facts, space, parameters, chooser.kept)
        search = Search(
            folder,
            optuna,
            parameters,
            objectives_of(optuna["objectives"], optuna["directions"], monitor=monitor, mode=mode),
            kept=chooser.kept,
            recorded=0 if task.dry_run else len(task.ledger.jobs),
        )
        sound = next(ends(parameters, chooser.kept))  # of those that were looked at
        check = partial(check_trial, task, facts, space, sound)
        return Trials(task, sweeper.launcher, space, search, common, check=check).run()


def refuse_foreign(launcher: Any) -> None:
    if not hasattr(launcher, "at_once"):
        raise UserError(
            f"hydra/sweeper=optuna asks what became of each job, which {type(launcher).__name__} "
            "does not tell; take hydra/launcher=local"
        )


def forget_unless_recorded(task: SweepTask) -> None:
    """A search of which no job could be composed has not begun."""
    if not task.ledger.asked:
        (task.folder / JOURNAL).unlink(missing_ok=True)


def common_config(task: SweepTask, space: Space, facts: ComposedFacts) -> dict[str, Any]:
    """The nodes `checkpoint`, which is the same for all jobs, and `trainer`, by which is chosen how
    many run at once. Raises UserError where what compares trials is tried too."""
    for key in ("checkpoint.monitor", "checkpoint.mode"):
        if key in space.keys:
            raise UserError(f"{key} says which trial is better, and cannot be tried itself")
    if task.ledger.jobs:
        agreed(task.ledger.jobs.values())
        config = task.ledger.jobs[0].config
        return {key: config[key] for key in COMMON}
    cfg = facts.composer([*task.asked["hydra"], *space.overrides({})], 0)
    return {key: OmegaConf.to_container(cfg[key], resolve=True) for key in COMMON}


class Trials:
    """Trials under way: asked for, run as jobs of the same number, judged and told."""

    def __init__(
        self,
        task: SweepTask,
        launcher: Any,
        space: Space,
        search: Search,
        common: dict[str, Any],
        *,
        check: Callable[[], None],
    ) -> None:
        self.task, self.launcher, self.space, self.search = task, launcher, space, search
        self.common, self.check = common, check
        self.monitor = str(common["checkpoint"]["monitor"])
        self.failed_before: set[int] = set()
        self.heard: dict[int, int] = {}  # how many evaluations of each trial, and no more to say
        self.returned: list[Any] = []
        task.num_jobs = max(search.total, len(task.ledger.jobs))
        if search.settings["pruner"] != "none":
            task.judge = self.judge

    def run(self) -> list[Any]:
        """To the total; or until a signal comes, or a failure that ends it."""
        for note in self.space.notes:
            print(f"note       {note}")
        if self.task.dry_run:
            return self.list_first()
        self.task.write_down()
        self.failed_before = self.failed()
        size = self.launcher.at_once(JobRecord(0, [], {}, "", self.common, {}, {}))
        self.settle()
        if cut_off := self.search.running():
            jobs = self.task.ledger.jobs
            self.task.only = set(cut_off)  # and none that failed: their trials are over
            self.launch([jobs[number].overrides for number in sorted(jobs)], 0)
            self.task.only = None
        while not self.is_over() and (batch := self.search.ask(size)):
            self.launch_new(batch)
        self.show()
        return self.returned

    def list_first(self) -> list[Any]:
        """For `--dry-run`: the first trials, which follow from the seed; of a search that has begun
        those that were made."""
        print(f"note       {self.search.total} trials in all; later ones are made of what came out")
        if not self.task.ledger.jobs:
            self.launch_new(self.search.ask(NUM_LISTED))
        return self.returned

    def show(self) -> None:
        """Which trials are best, where that is no single one; and pictures."""
        from dltrain.sweeps.search_plots import draw_search

        if len(self.search.objectives) > 1:
            front = sorted(trial.number for trial in self.search.study.best_trials)
            names = " and ".join(each.name for each in self.search.objectives)
            print(f"best       Pareto front of {names}: {', '.join(map(str, front)) or 'none'}")
        if drawn := draw_search(self.task.folder, self.search):
            print(f"plots      {self.task.folder}: {', '.join(drawn)}")

    def launch_new(self, batch: Sequence[dict[str, str]]) -> None:
        """Of trials that were just drawn those that can be jobs; the others have failed."""
        task, first = self.task, len(self.task.ledger.jobs)
        overrides = [self.space.overrides(chosen) for chosen in batch]
        refused = record_trials(task, first, overrides, config=self.common, check=self.check)
        task.only = set(range(first, first + len(batch))) - refused
        self.launch(overrides, first)
        task.only = None

    def launch(self, overrides: Sequence[Sequence[str]], first: int) -> None:
        self.returned.append(self.launcher.launch(overrides, first))
        if not self.task.dry_run:
            self.settle()

    def is_over(self) -> bool:
        """Some of it was stopped: by a signal, or as sweep.on_error says."""
        task = self.task
        failed = task.settings["on_error"] == "stop" and self.failed() - self.failed_before
        return task.signals.received is not None or bool(self.search.running()) or bool(failed)

    def failed(self) -> set[int]:
        found = self.task.ledger.states()
        return {state.job.number for state in found if state.state == states.FAILED}

    # ------------------------------------------------------------------ what became of them

    def settle(self) -> None:
        """Tells of every trial whose job has ended."""
        for number in self.search.running():
            job = self.task.ledger.jobs[number]
            state = self.state_of(job)
            if state == states.DONE:
                values = values_of(self.task.folder / job.directory, self.search.objectives)
                self.search.tell(number, values)
            elif state == states.PRUNED:
                self.search.tell_pruned(number)
            elif state == states.FAILED:
                self.search.tell(number, None)

    def state_of(self, job: JobRecord) -> str:
        """One that was pruned, and killed before that was noted, is pruned."""
        state = self.task.ledger.state(job.number).state
        if state == states.PENDING and is_refused(job):  # the power went while it was recorded
            self.task.ledger.note(job.number, states.FAILED, reason="it cannot be composed")
            return states.FAILED
        if state != states.PENDING or not self.search.is_pruned(job.number):
            return state
        summary = runs.read_if_whole(self.task.folder / job.directory / runs.SUMMARY)
        if summary.get("status") != "stopped":
            return state
        self.task.ledger.note(job.number, states.PRUNED)
        return states.PRUNED

    def judge(self, job: JobRecord, event: dict[str, Any]) -> str | None:
        """After an evaluation: whether the pruner stops it. All that it has not heard of is read
        from the run's own file: it was cut off, perhaps, before it was heard."""
        curve = read_evaluations(self.task.folder / job.directory, self.monitor)
        known = self.heard.get(job.number, 0)
        for index, row in enumerate(curve[known:], known + 1):
            if self.search.report(job.number, index, row.value):
                return f"{self.search.settings['pruner']}: {describe(self.monitor, row.value)}"
            self.heard[job.number] = index
        return None


def describe(monitor: str, value: float | None) -> str:
    shown = "not finite" if value is None else f"{value:.4g}"
    return f"{monitor} was {shown}, which other trials were better than by then"
