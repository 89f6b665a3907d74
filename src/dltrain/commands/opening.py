"""What the commands on a finished run share: RUN and key=value as typed -> a run that is open."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig

from dltrain import runs
from dltrain.commands.checked import checked
from dltrain.commands.job import check_device, refuse_several_processes
from dltrain.commands.train import take_allowed_targets
from dltrain.config import compose as composing
from dltrain.config.near import did_you_mean
from dltrain.durable import irregular
from dltrain.errors import UserError
from dltrain.stored import apply_overrides, stored_config
from dltrain.trained import TrainedRun, open_run

# What of a dataset is the run's, even where another is looked at: how images are made samples
PREPROCESSING = ("image_shape", "size", "crop_fraction", "decode", "mean", "std")


@dataclass
class Asked:
    """A command line, taken apart: nothing has been read yet."""

    run_dir: Path
    own: dict[str, Any]  # keys of the command itself
    overrides: list[str]  # of the run's config
    allowed: list[str] = field(default_factory=list)
    loader: dict[str, Any] = field(default_factory=dict)  # of the run, once it has been read

    @property
    def ema(self) -> bool | None:
        given = self.own.get("ema", "auto")
        if given not in ("auto", True, False):
            raise UserError(f"ema is {given}; it must be auto, true or false")
        return None if given == "auto" else given

    @property
    def checkpoint(self) -> str | None:
        given = self.own.get("checkpoint")
        return None if given is None else str(given)

    def typed(self, key: str) -> bool:
        return any(text.lstrip("+").startswith(f"{key}=") for text in self.overrides)


def asked_by(
    name: str, argv: list[str], own: Sequence[str], config_keys: Sequence[str], *, example: str = ""
) -> Asked:
    """What stands behind `dltrain NAME`: RUN, and then key=value; see `take_apart`."""
    allowed, rest = take_allowed_targets(argv)
    flag = next((arg for arg in rest if arg.startswith("-")), None)
    if flag or not rest:
        what = f"there is no flag {flag}" if flag else f"{name} needs the directory of a run"
        raise UserError(f"{what}; write `dltrain {name} RUN {example}[key=value ...]`")
    asked = take_apart(rest[0], rest[1:], own, config_keys)
    asked.allowed = allowed
    return asked


def take_apart(
    text: str, arguments: Sequence[str], own: Sequence[str], config_keys: Sequence[str]
) -> Asked:
    """`own` are the command's keys; `config_keys` those of the config that may be typed.

    One of these that ends with a dot stands for all that begin with it. Raises UserError.
    """
    given: dict[str, Any] = {}
    overrides: list[str] = []
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        key = key.lstrip("+")
        if not equals:
            raise UserError(f"`{argument}` is no key=value")
        if key in own:
            if key in given:
                raise UserError(f"`{key}` is given twice; keep one of them")
            given[key] = value_of(argument)
        elif any(key == each or (each[-1] == "." and key.startswith(each)) for each in config_keys):
            overrides.append(argument)
        else:
            known = [*own, *(f"{key}*" if key[-1] == "." else key for key in config_keys)]
            near = did_you_mean(key, known)
            raise UserError(
                f"`{key}` cannot be changed here; {near or 'these can: ' + ', '.join(known)}"
            )
    if given.get("checkpoint") == "":
        raise UserError("checkpoint is empty; it must be best, last, a step, or a path")
    composing.refuse_duplicates(overrides)
    return Asked(runs.find_run(text), given, overrides)


def value_of(argument: str) -> Any:
    """By Hydra's grammar where it has one for it; a path need not be quoted."""
    text = argument.partition("=")[2]
    if text in ("true", "false"):
        return text == "true"
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        with suppress(HydraException):
            return composing.parse_overrides([argument])[0].value()
    return text


def read_config(asked: Asked) -> dict[str, Any]:
    """The run's config with what was typed, checked, and with the run's own threads."""
    runs.refuse_links(asked.run_dir)
    cfg = stored_config(asked.run_dir)
    old = cfg.dataset
    asked.loader = {str(key): value for key, value in cfg.loader.items()}
    apply_overrides(cfg, asked.overrides, {})
    if cfg.dataset is not old and asked.typed("dataset"):
        keep_preprocessing(cfg, old, asked)
    config = checked(cfg, allowed=asked.allowed)
    trainer = config["trainer"]
    if not asked.typed("trainer.threads"):  # with other threads, sums have other roundings
        record = runs.read_if_whole(asked.run_dir / runs.RECORD)
        trainer["threads"] = record.get("threads", trainer["threads"])
    if asked.typed("trainer.device") or trainer["device"] in ("auto", "cpu"):
        check_device(trainer)
    refuse_several_processes()
    return config


def keep_preprocessing(cfg: DictConfig, old: DictConfig, asked: Asked) -> None:
    """Another dataset is seen as the run has learned to see; only what is typed differs."""
    for key in PREPROCESSING:
        if key in old and key in cfg.dataset and not asked.typed(f"dataset.{key}"):
            cfg.dataset[key] = old[key]


def open_asked(asked: Asked, config: dict[str, Any]) -> TrainedRun:
    """Sets what holds for the process (threads, determinism, seed), and opens the run."""
    import torch

    from dltrain import build
    from dltrain.engine.device import choose_device

    trainer = config["trainer"]
    if trainer["device"].startswith("cuda") and not asked.typed("trainer.device"):
        index = int(trainer["device"].partition(":")[2] or 0)
        if index >= torch.cuda.device_count():  # the run comes from another machine
            trainer["device"] = "auto"
    device = choose_device(trainer["device"])
    if device.type == "cpu" and not asked.typed("trainer.precision"):
        trainer["precision"] = {"fp16": "fp32", "tf32": "fp32"}.get(
            trainer["precision"], trainer["precision"]
        )
    build.prepare(config, device, trainer["threads"])
    run = open_run(
        asked.run_dir, config, checkpoint=asked.checkpoint, ema=asked.ema, allowed=asked.allowed
    )
    if trainer["compile"] and not run.weights.ema:  # training evaluates an average uncompiled
        run.model.compile()
    return run


def yes_or_no(asked: Asked, key: str, default: bool) -> bool:
    given = asked.own.get(key, default)
    if not isinstance(given, bool):
        raise UserError(f"{key} is {given}; it must be true or false")
    return given


def refuse_existing(asked: Asked, path: Path) -> None:
    overwrite = yes_or_no(asked, "overwrite", False)
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise UserError(
            f"{shown_path(path)} exists; overwrite=true replaces it, output= writes another"
        )
    if irregular(path) or path.is_dir():
        raise UserError(f"{shown_path(path)} is not a file; output= writes another")


def shown_path(path: Path) -> str:
    """Relative where that is shorter."""
    relative = os.path.relpath(path)
    return min(relative, str(path), key=len)
