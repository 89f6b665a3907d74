"""What `sweep.halving` and `sweep.optuna` may hold, so that a mistake is found at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dltrain.config.durations import EPOCHS, STEPS, parse_duration
from dltrain.config.near import did_you_mean
from dltrain.config.rules import whole
from dltrain.config.schema import Rule, one_of

SAMPLERS = ("tpe", "random", "gp", "grid", "qmc", "nsgaii")
PRUNERS = ("none", "median", "percentile", "successive_halving", "hyperband")
NUMBERS = ("wall_time_sec", "num_parameters", "samples_per_sec")  # of summary.json


def whole_duration(value: Any) -> str | None:
    try:
        amount = parse_duration(value, (STEPS, EPOCHS)).amount
    except ValueError as error:
        return str(error).replace(repr(value), "it", 1)
    fits = amount >= 1 and amount == int(amount) and amount <= 1e12
    return None if fits else "it must be a whole number of epochs or steps, such as 1 epoch"


def sampler(value: Any) -> str | None:
    if value in ("cmaes", "cma", "cma_es"):
        return "optuna keeps its state as a pickle, which is not loaded here; take gp or tpe"
    return one_of(*SAMPLERS)(value)


def arguments(value: Any) -> str | None:
    named = isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
    plain = named and all(isinstance(each, str | int | float | None) for each in value.values())
    return None if plain else "it must map names to values, such as {n_startup_trials: 20}"


def names(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value or len({*map(str, value)}) < len(value):
        return "it must be a list of different names, such as [accuracy/val,num_parameters]"
    return next((wrong for each in value if (wrong := objective(each))), None)


def objective(value: Any) -> str | None:
    metric, slash, split = str(value).rpartition("/")
    if slash and split == "test":
        return "the test data are for the end, and no search may see them; take accuracy/val"
    if value in NUMBERS or (metric and split in ("train", "val")):
        return None
    return f"{value!r} is neither a metric, such as accuracy/val, nor one of {', '.join(NUMBERS)}"


def directions(value: Any) -> str | None:
    fits = value is None or (
        isinstance(value, list) and value and all(each in ("max", "min") for each in value)
    )
    return None if fits else "it must be a list of max or min, one for each objective"


def space(value: Any) -> str | None:
    fits = value is None or isinstance(value, Mapping)
    return None if fits else "it must map keys to what they take, such as {optimizer.lr: [0.1,1]}"


RULES: dict[str, dict[str, Rule]] = {
    "halving": {"first": whole_duration, "eta": whole(2, 1000)},
    "optuna": {
        "trials": whole(1, 100_000),
        "sampler": sampler,
        "sampler_args": arguments,
        "pruner": one_of(*PRUNERS),
        "pruner_args": arguments,
        "seed": whole(0, 2**31 - 1),
        "objectives": names,
        "directions": directions,
        "space": space,
    },
}


def search_problems(sweep: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """The key, the value and the rule of what is wrong in either node; None as the value of a key
    that there is not."""
    for group, rules in RULES.items():
        node = sweep[group]
        if not isinstance(node, Mapping):
            yield f"sweep.{group}", node, f"it must hold keys: {', '.join(rules)}"
            continue
        for name in node:
            if name not in rules:
                near = did_you_mean(str(name), rules) or f"one of {', '.join(rules)}"
                yield f"sweep.{group}.{name}", None, near
        for name, rule in rules.items():
            if name in node and (wrong := rule(node[name])):
                yield f"sweep.{group}.{name}", node[name], wrong
