"""What is wrong with what a sweep is to try, or where it is to run, and what to type instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from dltrain.config.near import did_you_mean

WITHIN_BRACKETS = (
    "what holds = , or ( is quoted there: 'sweep.when={model.widths:\"model=cnn\"}', "
    "'sweep.grid={seed:\"range(1,4)\"}'"
)
SWEEPING = ("choice", "range", "interval", "glob", "shuffle", "sort", "tag")
CASTS = ("int", "float", "bool", "str", "json_str", "extend_list")
NUMBER = r"\s*(-?[\d.]+(?:e-?\+?\d+)?)\s*"
# What sbatch, Ray and other launchers call it, where likeness leads nowhere
OF_LAUNCHERS = {
    "gpus": "gpus_per_node",
    "gpu": "gpus_per_node",
    "num_gpus": "gpus_per_node",
    "cpus": "cpus_per_task",
    "num_cpus": "cpus_per_task",
    "mem": "mem_gb",
    "memory": "mem_gb",
    "time": "timeout_min",
    "walltime": "timeout_min",
    "queue": "partition",
    "job_name": "name",
}


def sweep_in_brackets(overrides: Sequence[str]) -> str:
    """`model.hidden_sizes=[int(interval(8,64))]`: of the keys of `sweep` alone quotes help."""
    functions = "|".join(SWEEPING)
    for text in overrides:
        key, _, value = text.partition("=")
        if re.search(rf"[\[{{].*\b({functions})\(", value) and not key.startswith("sweep."):
            return (
                f"`{text}`: within brackets nothing is swept over\n"
                f"list whole values to try, such as '{key}=[16],[32],[64]'"
            )
    return f"a sweep that stands within brackets needs quotes\n{WITHIN_BRACKETS}"


def wrong_function(override: str, reason: str) -> str:
    """`log(1e-4,1e-1)`, `interval(1e-4,1e-1,log)`: how a log scale is written, or what there is;
    empty where a function is not what is wrong."""
    key, _, value = override.partition("=")
    unknown = re.search(r"Unknown function '(\w+)'", reason)
    ends = re.match(rf"(\w+)\({NUMBER},{NUMBER}(.*)\)$", value)
    logarithmic = ends and "log" in f"{ends[1]}{ends[4]}".lower()
    if (unknown or "while evaluating 'interval" in reason) and ends and logarithmic:
        return f"a log scale is written '{key}=tag(log,interval({ends[2]},{ends[3]}))'"
    if unknown and ends and "uniform" in unknown[1]:
        return f"all numbers of a range are written '{key}=interval({ends[2]},{ends[3]})'"
    if unknown:
        return f"the functions are {', '.join([*SWEEPING, *CASTS])}; docs/sweeps.md says more"
    return ""


def split_by_yaml(names: Iterable[object]) -> str:
    """`{values: interval(0,0.5), when: ...}`: the part behind the comma became a key, which has a
    bracket too many; empty where none of `names` has."""
    for name in map(str, names):
        if name.count(")") > name.count("("):
            return (
                f"`{name}` is no key: within {{ }} yaml ends a value at its comma; quote it, as in "
                '{values: "interval(0,0.5)"}'
            )
    return ""


def no_lists(reason: str, key: str, values: Sequence[str]) -> str:
    """`model.hidden_sizes=16,32`, where each of them is to be a list; empty for other reasons."""
    if not reason.startswith(f"{key} is ") or "; it must be a list" not in reason:
        return ""
    if any(value.startswith("[") for value in values):
        return ""
    lists = ",".join(f"[{value}]" for value in values[:3])
    return f"each value to try needs brackets of its own: '{key}={lists}'"


def lists_to_try(reason: str, jobs: Iterable[Mapping[str, str]]) -> str:
    """The same, where `jobs` are what each job varies: of all that one of its keys takes."""
    tried: dict[str, dict[str, None]] = {}
    for job in jobs:
        for key, value in job.items():
            tried.setdefault(key.lstrip("+"), {})[value] = None
    hints = (no_lists(reason, key, list(values)) for key, values in tried.items())
    return next(filter(None, hints), "")


def unknown_hydra_key(key: str, known: Sequence[str], launcher: str) -> str:
    """`hydra.launcher.partion`. `known`: what there is of Hydra's node, dotted."""
    said = f"there is no config key `{key}`"
    parent, _, last = key.rpartition(".")
    if key.startswith("hydra.launcher.") and not any(
        k.startswith("hydra.launcher.") for k in known
    ):
        return (
            f"{said}: hydra/launcher={launcher} has no settings\n"
            "`dltrain info hydra/launcher` says which has some: hydra/launcher=submitit_slurm, ..."
        )
    meant = f"{parent}.{OF_LAUNCHERS.get(last, '')}"
    beside = [each for each in known if each.rpartition(".")[0] == parent]
    near = f"did you mean `{meant}`?" if meant in known else ""
    near = near or did_you_mean(key, beside) or did_you_mean(key, known)
    shows = "`dltrain train --cfg hydra` prints what there is"
    if key.startswith("hydra.launcher."):
        shows = f"`dltrain info hydra/launcher={launcher}` says what there is"
    return f"{said}{'; ' + near if near else ''}\n{shows}"
