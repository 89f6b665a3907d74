"""Optuna's samplers and pruners by their names, with arguments that were typed."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dltrain.config.near import did_you_mean
from dltrain.errors import UserError
from dltrain.sweeps.search_space import Parameter

# What is never typed: it is given here, or is a function
GIVEN = {
    "seed",
    "search_space",
    "gamma",
    "weights",
    "constraints_func",
    "independent_sampler",
    "mutation",
    "crossover",
    "child_generation_strategy",
    "after_trial_strategy",
    "elite_population_selection_strategy",
    "warn_independent_sampling",
    "warn_asynchronous_seeding",
}


def sampler_class(name: str) -> Any:
    """Without CMA-ES, whose state optuna keeps as a pickle in its storage: loading it would run
    what anybody has written there."""
    from optuna import samplers

    return {
        "tpe": samplers.TPESampler,
        "random": samplers.RandomSampler,
        "gp": samplers.GPSampler,
        "grid": samplers.GridSampler,
        "qmc": samplers.QMCSampler,
        "nsgaii": samplers.NSGAIISampler,
    }[name]


def make_sampler(
    name: str,
    arguments: Mapping[str, Any],
    *,
    seed: int,
    number: int,
    parameters: Sequence[Parameter],
) -> Any:
    """The sampler of trial `number`, to be made anew for each.

    Optuna saves no random state: a sampler that is made again after a kill draws what it has drawn
    before. So its seed is a function of the trial's number, and a search that goes on makes the
    same trials as one that was never stopped. Raises UserError for arguments that it refuses.
    """
    made = sampler_class(name)
    extra: dict[str, Any] = {}
    if name == "grid":
        extra["search_space"] = {each.name: each.values() for each in parameters}
    elif name == "tpe":
        extra["constant_liar"] = True  # trials that run at once keep away from each other
        if any(each.conditional for each in parameters):
            extra |= {"multivariate": True, "group": True}  # knows which come together
    elif name == "qmc":
        extra["scramble"] = True
    one_sequence = name in ("grid", "qmc")  # of which the trial's number is the index
    extra["seed"] = seed if one_sequence else seed_of(seed, number)
    if "warn_independent_sampling" in inspect.signature(made).parameters:
        extra["warn_independent_sampling"] = False
    return construct("sampler", name, made, extra | dict(arguments), typed=arguments)


def seed_of(seed: int, number: int) -> int:
    digest = hashlib.sha256(f"{seed},{number}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def make_pruner(name: str, arguments: Mapping[str, Any]) -> Any:
    """Raises UserError for arguments that it refuses."""
    from optuna import pruners

    made = {
        "none": pruners.NopPruner,
        "median": pruners.MedianPruner,
        "percentile": pruners.PercentilePruner,
        "successive_halving": pruners.SuccessiveHalvingPruner,
        "hyperband": pruners.HyperbandPruner,
    }[name]
    extra = {"percentile": 25.0} if name == "percentile" else {}
    return construct("pruner", name, made, extra | dict(arguments), typed=arguments)


def construct(
    what: str, name: str, made: Any, arguments: Mapping[str, Any], *, typed: Mapping[str, Any]
) -> Any:
    key = f"sweep.optuna.{what}_args"
    known = [each for each in inspect.signature(made).parameters if each not in GIVEN]
    for each in typed:
        if each not in known:
            near = did_you_mean(each, known) or (f"one of {', '.join(known)}" if known else "none")
            raise UserError(f"{key}.{each}: the {what} {name} has no such argument; {near}")
    for each, value in typed.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}.{each} is {value}; it must be finite")
    try:
        return made(**arguments)
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise UserError(f"{key}: the {what} {name} does not take this: {one_line(error)}") from None


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
