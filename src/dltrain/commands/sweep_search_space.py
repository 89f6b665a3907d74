"""What `hydra/sweeper=optuna` may try: what was typed, `sweep.grid` and `sweep.optuna.space`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from omegaconf import OmegaConf

from dltrain import runs
from dltrain.commands.checked import checked
from dltrain.commands.sweep_grid import ComposedFacts, reader, typed_terms
from dltrain.commands.sweep_task import SweepTask
from dltrain.config import compose as composing
from dltrain.config.grammar import Term
from dltrain.config.sweep import check_sweep
from dltrain.config.sweep_messages import split_by_yaml
from dltrain.errors import UserError
from dltrain.stored import refuse_interpolations
from dltrain.sweeps.search_space import Kept, Parameter
from dltrain.sweeps.space import Row, Space, make_space

SPEC = ("values", "when")  # of a mapping that says more of a key than what it takes
GRID_ALONE = {"random": None, "repeat": 1}  # keys of the `sweep` node, and what they are elsewhere
MAX_CHECKED = 64
CONFIG_FLAGS = ("--config", "-cd", "-cn", "-cp")


def read_space(
    sweeper: Any, facts: ComposedFacts, arguments: Sequence[str], settings: Mapping[str, Any]
) -> tuple[Space, list[Term]]:
    """The axes, and what they were read from. Raises UserError for what cannot be meant."""
    for key, neutral in GRID_ALONE.items():
        if settings[key] != neutral:
            raise UserError(
                f"sweep.{key} is {settings[key]}; it is for hydra/sweeper=grid: what optuna tries "
                "is said by sweep.optuna, such as sweep.optuna.trials"
            )
    loader = sweeper.hydra_context.config_loader
    typed = typed_terms(arguments, loader, 0)
    terms, read = list(typed), reader(facts, loader, 0, "sweep.optuna.space")

    def noted(key: str, value: Any) -> Term:
        terms.append(read(key, value))
        return terms[-1]

    specs = dict(specs_of(settings["optuna"]["space"] or {}))
    values = {key: spec["values"] for key, spec in specs.items()}
    conditions = {key: spec["when"] for key, spec in specs.items() if spec.get("when")}
    grid = {**sweeper.params, **(settings["grid"] or {}), **values}
    when = {**(settings["when"] or {}), **conditions}
    space = make_space(typed, {**settings, "grid": grid, "when": when}, noted)
    if not space.axes:
        raise UserError(
            "there is nothing to try; write what: optimizer.lr=tag(log,interval(1e-5,1e-1)), "
            "or sweep.optuna.space in a file"
        )
    return space, terms


def specs_of(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Key -> `{values: ..., when: ...}`; dotted keys may be nested, and values alone will do."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and "values" in value:
            for other in value:
                if other not in SPEC:
                    why = split_by_yaml(value) or f"`{other}`: it may hold values and when"
                    raise UserError(f"sweep.optuna.space.{key}: {why}")
            yield key, dict(value)
        elif isinstance(value, Mapping):
            yield from specs_of(value, f"{key}.")
        else:
            yield key, {"values": value}


def check_ends(
    task: SweepTask,
    facts: ComposedFacts,
    space: Space,
    parameters: Sequence[Parameter],
    kept: Kept,
) -> None:
    """A value that cannot be is found before the first trial: the ends of each interval and every
    choice, 64 at most, beside the first of all others. Raises UserError."""
    for chosen in islice(ends(parameters, kept), MAX_CHECKED):
        check_trial(task, facts, space, chosen)


def check_trial(task: SweepTask, facts: ComposedFacts, space: Space, chosen: Row) -> None:
    cfg = facts.composer([*task.asked["hydra"], *space.overrides(chosen)], 0)
    checked(composing.job_config(cfg), allowed=task.allowed)


def ends(parameters: Sequence[Parameter], kept: Kept) -> Iterator[Row]:
    tried = [each.labels if each.rows else [each.low, each.high] for each in parameters]
    for varied, values in enumerate(tried):
        for value in values if varied == 0 else values[1:]:
            chosen: Row = {}
            for index, each in enumerate(parameters):
                row = each.row(value if index == varied else tried[index][0])
                chosen |= kept(row, chosen)
            yield chosen


# ---------------------------------------------------------------------- of a sweep that goes on


def stored_space(task: SweepTask) -> tuple[list[str], dict[str, Any]]:
    """(what was typed, the `sweep` node) of `sweep.json`, for trials that are yet to be made.

    It may come from anywhere: nothing in it is interpolated, and what writes elsewhere or is code
    has to be typed. What is tried stays what it was; how much and by whom can be changed.
    """
    asked, where = task.asked, task.folder / runs.SWEEP
    again = (
        "to make more trials, type the command of the sweep again, with "
        f"hydra.sweep.dir={shlex.quote(str(task.folder))}"
    )
    refuse_interpolations(asked, where)
    texts, command = asked.get("overrides"), asked.get("command")
    if (
        not isinstance(texts, list)
        or not isinstance(command, str)
        or not all(isinstance(text, str) for text in texts)
    ):
        raise UserError(f"{where} is not what a sweep writes")
    if any(word.startswith(CONFIG_FLAGS) for word in command.split()):
        raise UserError(f"configs of your own are read only where they are named; {again}")
    own = []
    for text in texts:
        key = text.lstrip("+~").partition("=")[0]
        if "_target_" in text:
            raise UserError(f"{where} holds `{text[:100]}`; {again}")
        if key.split(".")[0].split("/")[0] not in ("hydra", "sweep") and key != "dataset.download":
            own.append(text)
    frozen = check_sweep(OmegaConf.create({"sweep": asked.get("settings")}).sweep)
    now = task.settings["optuna"]
    changed = {
        k: v for k, v in now.items() if k not in ("space", "seed", "objectives", "directions")
    }
    return own, {**frozen, "optuna": {**frozen["optuna"], **changed}}
