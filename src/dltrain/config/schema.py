"""The types and rules of the config keys that are ours; their values stand in `configs/`.

Groups that hold a `_target_` (dataset, model, task, optimizer, scheduler, and each entry of
augmentation, callbacks and loggers) are open here: the signature of what they name is their schema.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from omegaconf import MISSING

from dltrain.config.durations import EPOCHS, PERCENT, SECONDS, STEPS, parse_duration

Rule = Callable[[Any], str | None]  # value -> what is wrong with it, or None


def at_least(low: float, high: float = math.inf) -> Rule:
    text = f"it must be >= {low:g}" + (f" and <= {high:g}" if math.isfinite(high) else "")
    return lambda value: None if low <= value <= high else text


def above(low: float) -> Rule:
    return lambda value: None if low < value < math.inf else f"it must be a number > {low:g}"


def one_of(*choices: str) -> Rule:
    return lambda value: None if value in choices else "it must be one of " + ", ".join(choices)


def duration(*units: str, or_none: bool = False) -> Rule:
    def rule(value: Any) -> str | None:
        try:
            amount = parse_duration(value, units).amount
        except ValueError as error:
            return str(error).replace(repr(value), "it", 1)
        return None if amount > 0 or or_none else "it must be longer than nothing"

    return rule


def device(value: Any) -> str | None:
    kind, _, index = str(value).partition(":")
    known = value in ("auto", "cpu", "cuda") or (
        kind == "cuda" and re.fullmatch("[0-9]{1,3}", index)
    )
    return None if known else "it must be auto, cpu, cuda or cuda:N"


def threads(value: Any) -> str | None:
    number = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1024
    return None if value == "auto" or number else "it must be auto or a number from 1 to 1024"


def workers(value: Any) -> str | None:
    number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1024
    return None if value == "auto" or number else "it must be auto or a number from 0 to 1024"


def truth(value: Any) -> str | None:
    """OmegaConf's own `bool` would take 2 and `on` as well."""
    return None if isinstance(value, bool) else "it must be true or false"


def metric_name(value: Any) -> str | None:
    name, _, split = str(value).partition("/")
    ok = bool(name) and split in ("train", "val")
    return None if ok else "it must name a metric and its split, such as accuracy/val or loss/val"


def file_name(value: Any) -> str | None:
    ok = str(value).strip() and "\0" not in str(value)
    return None if ok else "it must be a .safetensors, a .pth or a run, or null"


def folder_name(value: Any) -> str | None:
    ok = str(value).strip() and "\0" not in str(value)
    return None if ok else "it must be the path of a folder"


def run_name(value: Any) -> str | None:
    parts = str(value).split("/")
    ok = value and all(part not in ("", ".", "..") for part in parts) and str(value).isprintable()
    fits = len(str(value).encode(errors="replace")) <= 200  # of the 255 of a file's name
    return None if ok and fits else "it must be a path of at most 200 bytes below outputs/"


def key(rule: Rule) -> Any:
    """A config key without a default of its own (that stands in the yaml), with its rule."""
    return field(default=MISSING, metadata={"rule": rule})


@dataclass
class LoaderConfig:
    batch_size: int = key(at_least(1, 1e9))
    eval_batch_size: int = key(at_least(1, 1e9))
    num_workers: Any = key(workers)
    placement: str = key(one_of("auto", "device", "host", "stream"))
    drop_last: Any = key(truth)
    limit_batches: int | None = key(at_least(1, 1e9))


@dataclass
class TrainerConfig:
    budget: str = key(duration(STEPS, EPOCHS, SECONDS))
    max_epochs: int | None = key(at_least(1, 1e9))
    max_steps: int | None = key(at_least(1, 1e15))
    max_time: str | None = key(duration(SECONDS))
    device: str = key(device)
    precision: str = key(one_of("fp32", "tf32", "bf16", "fp16", "auto"))
    compile: Any = key(truth)
    accumulate: int = key(at_least(1, 1e6))
    max_grad_norm: float | None = key(above(0))
    on_nonfinite: str = key(one_of("stop", "skip"))
    deterministic: Any = key(truth)
    threads: Any = key(threads)
    log_every: str = key(duration(STEPS, EPOCHS, PERCENT))
    eval_every: str = key(duration(STEPS, EPOCHS, PERCENT))


@dataclass
class CheckpointConfig:
    every: str = key(duration(STEPS, EPOCHS, PERCENT))
    keep: int = key(at_least(2, 1e9))
    monitor: str = key(metric_name)
    mode: str = key(one_of("max", "min"))
    final: str = key(one_of("best", "last"))


@dataclass
class TrainConfig:
    name: str = key(run_name)
    seed: int = key(at_least(0, 2**63 - 1))
    resume: str = key(one_of("none", "auto"))
    init_from: str | None = key(file_name)
    dataset: Any = MISSING
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    augmentation: Any = field(default_factory=dict)
    model: Any = MISSING
    task: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    callbacks: Any = field(default_factory=dict)  # so that callbacks=[] is none
    loggers: Any = field(default_factory=dict)


@dataclass
class PrepareConfig:
    out: str = key(folder_name)
    store: str = key(one_of("files", "uint8"))
    side: int = key(at_least(1, 65_535))
    shard_mib: int = key(at_least(1, 1 << 20))
    num_workers: Any = key(workers)


@dataclass
class PackConfig:
    """Of `dltrain prepare`: a dataset, and what is to be made of it."""

    dataset: Any = MISSING
    prepare: PrepareConfig = field(default_factory=PrepareConfig)


def number(rule: Rule) -> Rule:
    """`rule`, for a value whose type no schema has checked."""

    def checked(value: Any) -> str | None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return rule(value) if is_number else "it must be a number"

    return checked


def probability(value: Any) -> str | None:
    return None if 0 <= value < 1 else "it must be >= 0 and < 1"


def each(rule: Rule) -> Rule:
    """`rule`, for every item of a list; what is no list is for the signature to judge."""

    def checked(value: Any) -> str | None:
        problems = map(rule, value) if isinstance(value, list) else ()
        return next((problem.replace("it", "each", 1) for problem in problems if problem), None)

    return checked


# Of keys whose type is open, so that nobody else has refused null
JUDGE_NULL = (threads, truth, workers)

# Keys of open groups that mean the same whatever the `_target_` is. Checked where they are present.
OPEN_RULES: dict[str, Rule] = {
    "optimizer.lr": number(above(0)),
    "optimizer.betas": each(number(probability)),
    "optimizer.eps": number(at_least(0, 1e6)),
    "optimizer.weight_decay": number(at_least(0, 1e6)),
    "optimizer.momentum": number(at_least(0, 1)),
    "model.dropout": number(probability),
    "task.label_smoothing": number(probability),
    "dataset.num_classes": number(at_least(1, 1e6)),
    "scheduler.warmup": duration(STEPS, EPOCHS, PERCENT, or_none=True),
}


def sections(schema: type) -> dict[str, type]:
    """The keys of a schema that have one of their own."""
    found: dict[str, type] = {}
    for item in fields(schema):
        nested = item.default_factory
        if isinstance(nested, type) and is_dataclass(nested):
            found[item.name] = nested
    return found


def rules(schema: type = TrainConfig, prefix: str = "") -> dict[str, Rule]:
    """Every rule of the schema under its dotted key."""
    found: dict[str, Rule] = {}
    for item in fields(schema):
        nested = item.default_factory
        if isinstance(nested, type) and is_dataclass(nested):
            found |= rules(nested, f"{prefix}{item.name}.")
        elif "rule" in item.metadata:
            found[prefix + item.name] = item.metadata["rule"]
    return found if prefix else found | OPEN_RULES
