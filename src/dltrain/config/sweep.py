"""The `sweep` node: what a sweep tries, and how; no part of the config of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dltrain.config.folder import config_dir
from dltrain.config.messages import explain_resolution_error, shorten
from dltrain.config.near import did_you_mean
from dltrain.config.schema import TrainConfig, at_least, key, one_of
from dltrain.config.search import search_problems
from dltrain.errors import UserError

MAX_REPEAT, MAX_JOBS_AT_ONCE, MAX_RETRIES = 100_000, 4096, 1000
# What says how a sweep is run and not what it tries: harmless where there is no sweep
HARMLESS = ("sweep.jobs", "sweep.on_error")
# Keys that hold keys of the user's own: there, a key that nobody has foreseen is no mistake
OPEN_KEYS = ("grid", "when", "halving", "optuna")


def jobs_at_once(value: Any) -> str | None:
    number = isinstance(value, int) and not isinstance(value, bool)
    ok = value == "auto" or (number and 1 <= value <= MAX_JOBS_AT_ONCE)
    return None if ok else f"it must be auto or a number from 1 to {MAX_JOBS_AT_ONCE}"


def on_error(value: Any) -> str | None:
    match = re.fullmatch(r"retry:([0-9]{1,9})", str(value))
    ok = value in ("continue", "stop") or (match and 1 <= int(match[1]) <= MAX_RETRIES)
    return None if ok else f"it must be continue, stop or retry:N, N from 1 to {MAX_RETRIES}"


def mapping(example: str) -> Any:
    def rule(value: Any) -> str | None:
        if value is None or isinstance(value, Mapping):
            return None
        return f"it must map keys to what they take, such as '{example}'"

    return rule


def zipped(value: Any) -> str | None:
    """A list of keys, or a list of such lists."""
    groups = groups_of(value)
    texts = groups is not None and all(isinstance(each, str) for group in groups for each in group)
    if not texts:
        return "it must be a list of keys, such as '[optimizer.lr,loader.batch_size]', or of lists"
    lonely = next((group for group in groups or [] if len(group) == 1), None)
    return f"`{lonely[0]}` alone is no pair" if lonely else None


def groups_of(value: Any) -> list[list[Any]] | None:
    """`sweep.zip` as a list of groups; None where it is neither a list of keys nor of lists."""
    if value is None or value == []:
        return []
    if not isinstance(value, list):
        return None
    kinds = {isinstance(each, list) for each in value}
    if len(kinds) != 1:
        return None
    return value if kinds == {True} else [value]


def settings(value: Any) -> str | None:
    ok = value is None or (
        isinstance(value, list) and all(isinstance(each, Mapping) and each for each in value)
    )
    return None if ok else "it must be a list of settings, such as '[{optimizer.lr:0.1,seed:3}]'"


@dataclass
class SweepConfig:
    repeat: int = key(at_least(1, MAX_REPEAT))
    jobs: Any = key(jobs_at_once)
    on_error: str = key(on_error)
    grid: Any = key(mapping("sweep.grid={optimizer.lr:[0.1,0.01]}"))
    zip: Any = key(zipped)
    list: Any = key(settings)
    when: Any = key(mapping("sweep.when={model.widths:{model:cnn}}"))
    random: int | None = key(at_least(1, 100_000))
    sampler: str = key(one_of("sobol", "uniform"))
    halving: Any = key(mapping("sweep.halving={eta:3}"))
    optuna: Any = key(mapping("sweep.optuna={trials:50}"))


@dataclass
class ComposedConfig(TrainConfig):
    """What is composed: a run's config, and beside it what is to be swept."""

    sweep: SweepConfig = field(default_factory=SweepConfig)


def composed_schema() -> DictConfig:
    """For Hydra; what holds the user's own keys takes them without a `+`, and merges."""
    schema = OmegaConf.structured(ComposedConfig)
    for name in OPEN_KEYS:
        schema.sweep[name] = {}
        OmegaConf.set_struct(schema.sweep[name], False)
    return schema


def is_of_sweep(override: str) -> bool:
    """Said of the sweep itself, and no part of a job."""
    return override.partition("=")[0].lstrip("+~").split(".")[0] == "sweep"


def check_sweep(node: Any) -> dict[str, Any]:
    """The `sweep` node of a composed config as plain data. Raises UserError for what is wrong.

    What it does not say, as that of a config of the user's own may not, is as in default.yaml.
    """
    if node is not None and not isinstance(node, DictConfig):
        raise UserError("sweep holds keys; write `sweep.repeat=5`, or `sweep=lr` for a file")
    known = {item.name: item.metadata["rule"] for item in fields(SweepConfig)}
    for name in node or ():
        if name not in known:
            near = did_you_mean(f"sweep.{name!s}", [f"sweep.{each}" for each in known])
            others = f"one of {', '.join(known)}"
            raise UserError(f"there is no config key `sweep.{name!s}`; {near or others}")
    try:
        found: Any = OmegaConf.to_container(node, resolve=True) if node is not None else {}
        given = {name: value for name, value in found.items() if value != MISSING}
        typed = OmegaConf.merge(OmegaConf.structured(SweepConfig), sweep_defaults(), given)
        plain: Any = OmegaConf.to_container(typed, throw_on_missing=True)
    except (OmegaConfBaseException, RecursionError) as error:
        raise UserError(explain_resolution_error(error)) from error
    for name, rule in known.items():
        value = plain[name]
        wrong = None if value is None and name == "random" else rule(value)
        if wrong:
            raise UserError(f"sweep.{name} is {shorten(shown(value), 100)}; {wrong}")
    for name, value, wrong in search_problems(plain):
        what = f"{name} is {shorten(shown(value), 100)}" if value is not None else f"`{name}`"
        raise UserError(f"{what}; {wrong}")
    return dict(plain)


def sweep_defaults() -> Any:
    return OmegaConf.load(config_dir() / "sweep" / "default.yaml")


def shown(value: Any) -> str:
    return "empty" if value == "" else repr(value)
