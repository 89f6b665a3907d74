"""What the trainer's part of a checkpoint must be: anybody may have made one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from dltrain.engine.checkpoint import Checkpoint
from dltrain.errors import CheckpointError

Rule = Callable[[Any], bool]


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_metrics(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_number, value.values()))


def is_best(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and is_count(value.get("step")) and is_number(value.get("value"))
    )


def is_recorder(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and is_count(value.get("offset"))
        and isinstance(value.get("loggers"), dict)
        and isinstance(value.get("last"), dict)
        and all(map(is_metrics, value["last"].values()))
    )


RULES: Mapping[str, Rule] = {
    "step": is_count,
    "steps_per_epoch": lambda value: is_count(value) and value > 0,
    "origin": lambda value: (
        isinstance(value, list) and len(value) == 2 and all(map(is_count, value))
    ),
    "elapsed_sec": lambda value: is_number(value) and 0 <= value < math.inf,
    "done": lambda value: (
        isinstance(value, dict)
        and {"log", "evaluate"} == set(value)
        and all(map(is_count, value.values()))
    ),
    "stopped": lambda value: isinstance(value, str),
    "metrics": is_metrics,
    "best": is_best,
    "sums": lambda value: isinstance(value, dict) and is_count(value.get("num_samples")),
    "update": lambda value: isinstance(value, dict),
    "random": lambda value: isinstance(value, dict),
    "recorder": is_recorder,
    "callbacks": lambda value: isinstance(value, dict),
}


def check_state(checkpoint: Checkpoint) -> None:
    """Raises CheckpointError for a state that no trainer has written, whatever its digest says."""
    state = checkpoint.state
    for name, is_right in RULES.items():
        if not isinstance(state, dict) or name not in state or not is_right(state[name]):
            raise CheckpointError(
                f"checkpoint {checkpoint.path.name} was not written by dltrain: its `{name}` is "
                "not what a run writes"
            )
