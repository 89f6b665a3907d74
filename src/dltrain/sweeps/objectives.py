"""What a search makes better: numbers of a run's summary, under the names that it gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain import runs
from dltrain.errors import UserError
from dltrain.sweeps.evaluations import is_finite

# Of summary.json, beside the metrics, and which way is better
NUMBERS = {"wall_time_sec": "min", "num_parameters": "min", "samples_per_sec": "max"}
# By the beginning of a metric's name
METRICS = {"loss": "min", "accuracy": "max"}


@dataclass(frozen=True)
class Objective:
    """`accuracy/val` and `max`; the best of `checkpoint.monitor`, any other metric where that was
    the best: what the weights that are kept can do."""

    name: str
    mode: str


def objectives_of(
    names: Sequence[str] | None, directions: Sequence[str] | None, *, monitor: str, mode: str
) -> list[Objective]:
    """Of `sweep.optuna`; by default what `checkpoint.monitor` says. Raises UserError."""
    names = [monitor] if names is None else names
    if directions is not None and len(directions) != len(names):
        raise UserError(
            f"sweep.optuna.directions has {len(directions)} entries for {len(names)} "
            f"objectives ({', '.join(names)}); give max or min for each"
        )
    found = []
    for index, name in enumerate(names):
        known = mode if name == monitor else default_direction(name)
        chosen = directions[index] if directions is not None else known
        if chosen is None:
            raise UserError(
                f"sweep.optuna.objectives: whether {name} is to be large or small is not known; "
                "say it for each: sweep.optuna.directions=[max,...]"
            )
        if name == monitor and chosen != mode:
            raise UserError(
                f"sweep.optuna.directions says {chosen} for {name}, and checkpoint.mode is {mode}; "
                "let them agree"
            )
        found.append(Objective(name, chosen))
    return found


def default_direction(name: str) -> str | None:
    if name in NUMBERS:
        return NUMBERS[name]
    return next((way for start, way in METRICS.items() if name.startswith(start)), None)


def values_of(run_dir: Path, objectives: Sequence[Objective]) -> list[float] | None:
    """Of a run that is over; None where one of them is missing or not finite."""
    summary = runs.read_json(run_dir / runs.SUMMARY)
    best = summary.get("best") or {}
    found = [value_of(run_dir, summary, best, each.name) for each in objectives]
    values = [float(value) for value in found if is_finite(value)]
    return values if len(values) == len(objectives) else None


def pareto_front(
    values: Mapping[int, Sequence[float]], objectives: Sequence[Objective]
) -> set[int]:
    """The jobs that none is as good as in all objectives and better than in one."""
    signs = [1 if each.mode == "max" else -1 for each in objectives]
    good = {job: [s * v for s, v in zip(signs, row, strict=True)] for job, row in values.items()}
    return {
        job
        for job, mine in good.items()
        if not any(
            other != mine and all(a >= b for a, b in zip(other, mine, strict=True))
            for other in good.values()
        )
    }


def value_of(run_dir: Path, summary: Mapping[str, Any], best: Mapping[str, Any], name: str) -> Any:
    if name == best.get("monitor"):
        return best.get("value")
    metric, slash, split = name.rpartition("/")
    if not slash:
        return summary.get(name)
    step = best.get("step")
    if not runs.is_count(step):
        return None
    value = None
    for row in runs.read_rows(run_dir):
        if row.get("split") == split and runs.is_count(row.get("step")) and row["step"] <= step:
            value = row.get(metric)
    return value
