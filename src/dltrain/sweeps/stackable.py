"""Which jobs of a sweep can be trained together, by their configs alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dltrain.config.durations import EPOCHS, SECONDS, STEPS, parse_duration
from dltrain.sweeps.ledger import JobRecord

# Callbacks that leave the forward and backward pass alone: what somebody else's does, nobody knows
CALLBACKS = (
    "dltrain.callbacks.progress.Progress",
    "dltrain.callbacks.early_stopping.EarlyStopping",
    "dltrain.callbacks.ema.EMA",
    "dltrain.callbacks.embeddings.Embeddings",
    "dltrain.callbacks.graph.Graph",
)
# Loggers of which a process can have several at a time
LOGGERS = (
    "dltrain.loggers.tensorboard.TensorBoard",
    "dltrain.loggers.csv.CSV",
    "dltrain.loggers.mlflow.MLflow",
)
# What has to be the same for all: what a network is, and what it is shown. All else is each
# member's own: seed, optimizer, schedule, smoothing, budget, averages, early stopping.
SAME = ("dataset", "augmentation", "loader", "model", "task")
SAME_OF_TRAINER = ("device", "precision", "accumulate", "deterministic", "threads")
# Keys of these that may differ
FREE = {
    "task": ("label_smoothing",),
    "loader": ("eval_batch_size",),
    "model": ("zero_init_last",),  # how weights begin
}


@dataclass
class Plan:
    """groups: jobs that can be trained together, at least two each; alone: the others, and why."""

    groups: list[list[JobRecord]] = field(default_factory=list)
    alone: list[tuple[JobRecord, str]] = field(default_factory=list)


def plan(jobs: Sequence[JobRecord]) -> Plan:
    """Groups in the order of their first jobs."""
    found: dict[str, list[JobRecord]] = {}
    result = Plan()
    for job in jobs:
        reason = why_alone(job.config)
        if reason:
            result.alone.append((job, reason))
        else:
            found.setdefault(network_of(job.config), []).append(job)
    for group in found.values():
        if len(group) > 1:
            result.groups.append(group)
        else:
            result.alone += [(job, "no other job has its network and its batches") for job in group]
    return result


def network_of(config: dict[str, Any]) -> str:
    """The same text for all that can be trained together."""
    same = {
        name: {k: v for k, v in config[name].items() if k not in FREE.get(name, ())}
        if isinstance(config[name], dict)
        else config[name]
        for name in SAME
    }
    trainer = {name: config["trainer"][name] for name in SAME_OF_TRAINER}
    return json.dumps([same, trainer], sort_keys=True)


def why_alone(config: dict[str, Any]) -> str | None:
    """What keeps a job from being trained together with others; None where nothing does."""
    trainer, loader = config["trainer"], config["loader"]
    if trainer["max_time"] or ends_by_time(trainer):
        return "its budget is time, of which several at once would each get a part"
    if trainer["compile"]:
        return "trainer.compile compiles one model"
    if trainer["precision"] == "fp16":
        return "trainer.precision=fp16 scales the loss of one model"
    if loader["placement"] == "stream" or loader["num_workers"] not in ("auto", 0):
        return "its samples are streamed"
    for group, known in (("callbacks", CALLBACKS), ("loggers", LOGGERS)):
        for name, node in (config[group] or {}).items():
            if node["_target_"] not in known:
                return f"{group}.{name} is for one run at a time"
    return None


def ends_by_time(trainer: dict[str, Any]) -> bool:
    if trainer["max_epochs"] or trainer["max_steps"]:
        return False
    return parse_duration(trainer["budget"], (STEPS, EPOCHS, SECONDS)).unit == SECONDS
