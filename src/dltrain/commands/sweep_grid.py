"""The jobs of `hydra/sweeper=grid`: of what was typed, the `sweep` node and what composing says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from dltrain.commands.sweep_task import SweepTask
from dltrain.config import compose as composing
from dltrain.config.composer import Composer
from dltrain.config.grammar import Term, read_terms, term_of
from dltrain.config.messages import explain_compose_error
from dltrain.config.sweep import is_of_sweep
from dltrain.errors import UserError
from dltrain.sweeps.expand import JobSpec, jobs_of
from dltrain.sweeps.space import Reader, Space, make_space


class ComposedFacts:
    """What the configs of jobs say, each composed once for all jobs that choose the same groups."""

    def __init__(self, task: SweepTask) -> None:
        self.task = task
        self._composer: Composer | None = None
        self._found: dict[tuple[str, ...], Any] = {}

    def __enter__(self) -> ComposedFacts:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._composer is not None:
            self._composer.__exit__()

    @property
    def composer(self) -> Composer:
        if self._composer is None:  # 0.1 s, and most sweeps do not ask
            self._composer = Composer(**self.task.config).__enter__()
        return self._composer

    def value(self, overrides: Sequence[str], key: str) -> Any:
        own = [text for text in overrides if text.partition("=")[0].lstrip("+") == key]
        groups = [text for text in overrides if "." not in text.partition("=")[0]]
        chosen = tuple(dict.fromkeys([*groups, *own]))
        if chosen not in self._found:
            self._found[chosen] = self.composer([*self.task.asked["hydra"], *chosen], 0)
        cfg = self._found[chosen]
        choices = cfg.hydra.runtime.choices
        if key in choices:
            return choices[key]
        missing = object()
        found = OmegaConf.select(cfg, key, default=missing)
        if found is missing:
            raise KeyError(key)
        return found

    def options(self, group: str) -> list[str]:
        return self.composer.options(group)


def grid_jobs(sweeper: Any, arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of every job; the task learns what varies. Raises UserError.

    sweeper: has `task_function`, `hydra_context` and `params`. arguments: what was typed, without
    Hydra's own.
    """
    task = sweeper.task_function
    if not isinstance(task, SweepTask):
        raise UserError("this sweeper belongs to `dltrain train -m`; no other program can use it")
    loader = sweeper.hydra_context.config_loader
    settings = task.settings
    with ComposedFacts(task) as facts:
        seed = base_seed(facts, arguments, settings)
        typed = typed_terms(arguments, loader, seed)
        grid = {**sweeper.params, **(settings["grid"] or {})}
        read = reader(facts, loader, seed, "sweep.grid")
        space = make_space(typed, {**settings, "grid": grid}, read)
        jobs = jobs_of(
            space, facts, draw=settings["random"], sampler=settings["sampler"], seed=seed
        )
    tell(task, space, jobs)
    return [job.overrides for job in jobs]


def typed_terms(arguments: Sequence[str], loader: Any, seed: int) -> list[Term]:
    """What was typed of jobs, and not of the sweep itself."""
    terms = read_terms(arguments, loader, seed)
    for term in terms:
        if is_of_sweep(term.text) and term.is_swept:
            raise UserError(f"`{term.text}`: this cannot be swept over itself; give one value")
    return [term for term in terms if not is_of_sweep(term.text)]


def reader(facts: ComposedFacts, loader: Any, seed: int, where: str) -> Reader:
    """Of what a file says of a key; `where` it says so is named in errors."""

    def read(key: str, value: Any) -> Term:
        try:
            return term_of(key, value, loader, seed)
        except composing.COMPOSE_ERRORS as error:
            reason = explain_compose_error(error, [], facts.composer.choices)
            raise UserError(f"{where}: {reason}") from error

    return read


def base_seed(facts: ComposedFacts, arguments: Sequence[str], settings: dict[str, Any]) -> int:
    """What draws and shuffles: the config's `seed`, 0 where that is swept over itself."""
    typed = next((text for text in arguments if text.startswith("seed=")), "seed=")
    digits = typed.partition("=")[2]
    if digits.isdecimal():
        return int(digits)
    if digits or not (settings["random"] or any("shuffle" in text for text in arguments)):
        return 0
    seed = facts.value([], "seed")
    return seed if isinstance(seed, int) else 0


def tell(task: SweepTask, space: Space, jobs: Sequence[JobSpec]) -> None:
    task.planned = {number: job.swept for number, job in enumerate(jobs)}
    task.num_jobs = len(jobs)
    if len(jobs) == 1 and not space.axes:
        print("note       one job: nothing is swept; key=a,b tries several")
    for note in space.notes:
        print(f"note       {note}")
