"""Everything that can be said against a composed config before PyTorch is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dltrain.config.durations import parse_duration
from dltrain.config.messages import explain_resolution_error, shorten
from dltrain.config.monitors import wrong_modes
from dltrain.config.near import did_you_mean
from dltrain.config.rules import disagreements, part_problems
from dltrain.config.schema import JUDGE_NULL, TrainConfig, rules, sections
from dltrain.config.signatures import TargetError, check_arguments, read_signature
from dltrain.config.targets import check_target
from dltrain.errors import UserError

MAX_PROBLEMS = 6
MAX_VALUE = 100
MAX_DEPTH = 32
TARGET_GROUPS = ("dataset", "model", "task", "optimizer", "scheduler")
# What an entry of a group may be, beside what --allow-target vouches for: a part of that kind
ROOMS = {
    "dataset": ("dltrain.data",),
    "augmentation": ("dltrain.data", "torchvision.transforms"),
    "model": ("dltrain.models", "torch.nn", "torchvision.models"),
    "task": ("dltrain.tasks",),
    "optimizer": ("dltrain.optimizers", "torch.optim"),
    "scheduler": ("dltrain.schedulers",),
    "callbacks": ("dltrain.callbacks",),
    "loggers": ("dltrain.loggers",),
}
# What Hydra's own keys of a `_target_` node must be
INSTRUCTIONS: dict[str, Callable[[Any], bool]] = {
    "_partial_": lambda value: isinstance(value, bool),
    "_recursive_": lambda value: isinstance(value, bool),
    "_args_": lambda value: isinstance(value, list),
    "_convert_": lambda value: value in ("none", "partial", "object", "all"),
}
RULES = {
    "_partial_": "it must be true or false",
    "_recursive_": "it must be true or false",
    "_args_": "it must be a list",
    "_convert_": "it must be one of none, partial, object, all",
}
# Keys of a `_target_` node that the builder takes out before the constructor is called
RESERVED = {"optimizer": {"decay_norm_and_bias"}}


def check(
    cfg: DictConfig, *, allowed: Sequence[str] = (), schema: type = TrainConfig
) -> dict[str, Any]:
    """The config as plain data, every interpolation resolved, if nothing is wrong with it.

    `cfg` has no `hydra` node; `allowed` are the packages of --allow-target. Raises UserError with
    one line for each problem, six at most.
    """
    try:
        typed = OmegaConf.merge(structured(schema), without_unknown(cfg, schema))
        config = resolved(typed)
    except (OmegaConfBaseException, RecursionError) as error:
        raise UserError(explain_resolution_error(error, cfg)) from error
    refuse_escaped(config)
    problems = [*range_problems(config, schema), *structure_problems(config)]
    problems += target_problems(config, allowed) if not problems else []
    if not problems:  # of the right type: in the right range?
        found = [*part_problems(target_nodes(config))]
        found += [*disagreements(config), *wrong_modes(config)] if schema is TrainConfig else []
        problems += [f"{key} is {shown(value)}; {wrong}" for key, value, wrong in found]
    if problems:
        lines = (
            problems
            if len(problems) <= MAX_PROBLEMS
            else [*problems[: MAX_PROBLEMS - 1], f"and {len(problems) - MAX_PROBLEMS + 1} more"]
        )
        raise UserError("\n".join(shorten(visible(line)) for line in lines))
    return dict(config)


@cache
def structured(schema: type) -> Any:
    """Merging copies it."""
    return OmegaConf.structured(schema)


def resolved(typed: Any) -> dict[str, Any]:
    """Plain data; UserError where a value is missing, which is looked for where it is quick."""
    try:
        config: Any = OmegaConf.to_container(typed, resolve=True)
    except OmegaConfBaseException:
        refuse_missing(typed)
        raise
    if holds_missing(config):
        refuse_missing(typed)
    return dict(config)


def refuse_missing(typed: Any) -> None:
    missing = sorted(OmegaConf.missing_keys(typed))
    if missing:
        lines = [f"{key} is missing: give it as `{key}=...`" for key in missing[:MAX_PROBLEMS]]
        raise UserError("\n".join(lines))


def holds_missing(node: Any) -> bool:
    """Whether OmegaConf's `???` is anywhere in plain data: to look for it there is quick."""
    if isinstance(node, dict):
        return any(map(holds_missing, node.values()))
    if isinstance(node, list):
        return any(map(holds_missing, node))
    return isinstance(node, str) and node == MISSING


def visible(text: str) -> str:
    """What steers a terminal is spelled out: a config can come from anywhere."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def without_unknown(cfg: DictConfig, schema: type) -> DictConfig:
    """`cfg`, if it holds no key that the schema does not: one typed with a + has passed Hydra."""
    missing = object()
    for name, section in ((None, schema), *sections(schema).items()):
        node = cfg if name is None else cfg.get(name, missing)
        if node is missing:
            raise UserError(f"{name} is missing: give it as `{name}=...`")
        known = [field.name for field in fields(section)]
        for key in node if isinstance(node, DictConfig) else ():
            if key not in known:
                near = did_you_mean(str(key), known)
                where = f"{name}.{key!s}" if name else str(key)
                raise UserError(
                    f"there is no config key `{where}`; {near or 'one of ' + ', '.join(known)}"
                )
    return cfg


def refuse_escaped(node: Any, key: str = "") -> None:
    """After resolving there are none, unless one was escaped: building would resolve it then.

    With `${oc.create:...}` it could make a `_target_` that nobody has checked.
    """
    if isinstance(node, dict):
        for name, value in node.items():
            refuse_escaped(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            refuse_escaped(value, f"{key}.{index}")
    elif isinstance(node, str) and "${" in node:
        raise UserError(f"{key} is {node!r} after resolving; a value must not hold ${{")


def range_problems(config: dict[str, Any], schema: type) -> Iterator[str]:
    for key, rule in rules(schema).items():
        value = select(config, key)
        if value is None and rule not in JUDGE_NULL:
            continue
        if wrong := rule(value):
            yield f"{key} is {shown(value)}; {wrong}"


def shown(value: Any) -> str:
    return "empty" if value == "" else shorten(plain(value), MAX_VALUE)


def plain(value: Any) -> str:
    """A value as the user would type it: null and true are not None and True."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def structure_problems(config: dict[str, Any]) -> Iterator[str]:
    for group in (each for each in TARGET_GROUPS if each in config):
        node = config[group]
        if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
            yield f"{group} needs a `_target_`; `dltrain info {group}` lists what there is"
    for group in (each for each in ("augmentation", "callbacks", "loggers") if each in config):
        node = config[group]
        for name, entry in (node or {}).items() if isinstance(node, dict | None) else [("", None)]:
            if not isinstance(entry, dict) or not isinstance(entry.get("_target_"), str):
                where = f"{group}.{name}".rstrip(".")
                yield f"{where} needs entries with a `_target_`; see `dltrain info {group}`"


def target_problems(config: dict[str, Any], allowed: Sequence[str]) -> Iterator[str]:
    for key, node in target_nodes(config):
        arguments = {k: v for k, v in node.items() if k not in RESERVED.get(key, ())}
        if key == "scheduler":
            arguments = {k: as_fraction(v) for k, v in arguments.items()}
        if wrong := instruction_problem(key, node):
            yield wrong
            continue
        try:
            check_target(node["_target_"], allowed, rooms=rooms_of(key))
            signature = read_signature(node["_target_"])
        except TargetError as error:
            yield f"{key}._target_: {error}"
            continue
        if signature is not None:
            partial = key == "optimizer" or node.get("_partial_") is True  # `params` comes later
            yield from check_arguments(signature, arguments, partial=partial, key=key)


def is_entry(key: str) -> bool:
    """Whether what stands there is built for itself, and not as an argument of something."""
    group, _, name = key.partition(".")
    return key in TARGET_GROUPS or (group not in TARGET_GROUPS and "." not in name)


def rooms_of(key: str) -> Sequence[str] | None:
    return ROOMS[key.partition(".")[0]] if is_entry(key) else None


def instruction_problem(key: str, node: dict[str, Any]) -> str | None:
    """What is wrong with the keys of a node that are for Hydra, which would fail in its own way."""
    target = node["_target_"]
    if not isinstance(target, str):
        return f"{key}._target_ is {plain(target)}; it must be the full name of a class"
    for name, is_right in INSTRUCTIONS.items():
        if name in node and not is_right(node[name]):
            return f"{key}.{name} is {plain(node[name])}; {RULES[name]}"
    if node.get("_partial_") and is_entry(key) and key != "optimizer":
        return f"{key}._partial_ is true; it is for the arguments of a {key.split('.')[0]}"
    return None


def as_fraction(value: Any) -> Any:
    """What the constructor of a schedule will see where the config has a duration."""
    if isinstance(value, list):
        return [as_fraction(item) for item in value]
    try:
        return 0.5 if isinstance(value, str) and parse_duration(value) else value
    except ValueError:
        return value


def target_nodes(node: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a `_target_`, however deep, under its dotted key."""
    if depth > MAX_DEPTH:
        raise UserError(f"{key.split('.')[0]} is nested more than {MAX_DEPTH} deep")
    if isinstance(node, dict):
        if "_target_" in node:
            yield key, node
        for name, value in node.items():
            yield from target_nodes(value, f"{key}.{name}" if key else str(name), depth + 1)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from target_nodes(value, f"{key}.{index}", depth + 1)


def select(config: dict[str, Any], key: str) -> Any:
    """The value under a dotted key; None where there is none."""
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node
