"""Which values of a config are hyperparameters, under the names that HPARAMS shows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from dltrain.effects import FACTS_OF_DATA, NO_RESULT, covers

GROUPS = (
    *("dataset", "augmentation", "loader", "model", "task"),
    *("optimizer", "scheduler", "trainer", "callbacks"),
)
MAX_CHARACTERS = 40
NOT_HYPERPARAMETERS = (*NO_RESULT, "trainer.eval_every", "loader.eval_batch_size")

Value = bool | float | str


def hyperparameters(config: dict[str, Any]) -> dict[str, Value]:
    """`{"dataset": "digits", "optimizer.lr": 0.001, "model.hidden_sizes": "[64, 32]", ...}`.

    Group choices come from `config["choices"]`. Of the values: the seed, and below each of `GROUPS`
    what is a finite number, a bool, or a short string or list. None is left out: HPARAMS shows the
    union of all runs' names, and nothing where a run has none.
    """
    choices = config.get("choices") or {}
    chosen = {group: choices[group] for group in GROUPS if isinstance(choices.get(group), str)}
    seed = {"seed": config["seed"]} if "seed" in config else {}
    leaves = {key: value for group in GROUPS for key, value in _leaves(group, config.get(group))}
    return chosen | seed | leaves


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Value]]:
    if covers(NOT_HYPERPARAMETERS, key):
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            if name != "_target_" and name not in FACTS_OF_DATA:
                yield from _leaves(f"{key}.{name}", inner)
    elif isinstance(value, bool):
        yield key, value
    elif isinstance(value, int | float):
        if math.isfinite(value):
            yield key, value
    elif isinstance(value, str | list) and value:
        text = str(value)
        if len(text) <= MAX_CHARACTERS and not set(text) & set("/\\\n"):
            yield key, text
