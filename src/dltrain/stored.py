"""A run's config as its directory has it: read as data, and changed by what was typed."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dltrain import runs
from dltrain.config import compose as composing
from dltrain.config.messages import shorten, type_error
from dltrain.config.near import did_you_mean
from dltrain.config.schema import TrainConfig
from dltrain.errors import UserError

# Of a stored logger of ours: what would write or send to another place, and what stands for it
# until it is typed
AT_HOME = {"tracking_uri": None, "mode": "offline"}


def stored_choices(run_dir: Path) -> dict[str, Any]:
    """Which config was chosen in each group, as the run's record has it; they are only shown."""
    choices: dict[str, Any] = {}
    with suppress(UserError):  # whoever needs more of the record says what is wrong with it
        choices = runs.read_json(run_dir / runs.RECORD).get("choices", {})
    names = {k: v if isinstance(v, list) else [v] for k, v in choices.items()}
    return {k: choices[k] for k, v in names.items() if all(is_name(each) for each in (k, *v))}


def is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w./-]{1,100}", value) is not None


def stored_config(run_dir: Path) -> DictConfig:
    """The run's `config.yaml` as plain data, against the schema: nothing in it is interpolated.

    It may come from anywhere: what writes outside of the run's directory, or sends to somebody,
    has to be typed.
    """
    data = runs.read_config(run_dir)
    refuse_interpolations(data, run_dir / runs.CONFIG)
    stay_at_home(data)
    try:
        cfg = OmegaConf.merge(OmegaConf.structured(TrainConfig), data)
    except OmegaConfBaseException as error:
        raise UserError(f"{run_dir / runs.CONFIG}: {type_error(error)}") from error
    assert isinstance(cfg, DictConfig)
    OmegaConf.set_struct(cfg, True)
    return cfg


def stay_at_home(data: dict[str, Any]) -> None:
    """Takes out of a stored config what writes elsewhere or sends to somebody."""
    dataset = data.get("dataset")
    if isinstance(dataset, dict) and "download" in dataset:
        dataset["download"] = False
    for name, key, _ in sent_elsewhere(data):
        data["loggers"][name][key] = AT_HOME[key]


def sent_elsewhere(data: Any) -> list[tuple[Any, str, Any]]:
    """(logger, key, value) of a config's settings that are not taken over."""
    loggers = data.get("loggers")
    return [
        (name, key, node[key])
        for name, node in (loggers.items() if isinstance(loggers, dict) else ())
        if isinstance(node, dict) and str(node.get("_target_")).startswith("dltrain.")
        for key, stands_for in AT_HOME.items()
        if node.get(key, stands_for) != stands_for
    ]


def not_taken_over(run_dir: Path, cfg: DictConfig) -> list[str]:
    """What to say of `stored_config`, once `cfg` has what was typed."""
    found = []
    for name, key, value in sent_elsewhere(runs.read_config(run_dir)):
        node = (cfg.loggers or {}).get(name)
        if node is not None and node.get(key) == AT_HOME[key] and is_name(name):
            full = f"loggers.{name}.{key}"
            shown = shorten(repr(value), 150)
            found.append(f"the run's {full}, {shown}, is used only where it is typed: {full}=...")
    return found


def refuse_interpolations(node: Any, file: Path) -> None:
    """A stored config is resolved; `${...}` in one would read this machine's environment."""
    if isinstance(node, dict):
        for key, value in node.items():
            refuse_interpolations(key, file)
            refuse_interpolations(value, file)
    elif isinstance(node, list):
        for value in node:
            refuse_interpolations(value, file)
    elif isinstance(node, str) and "${" in node:
        shown = shorten(repr(node), 100)
        raise UserError(f"{file} holds the interpolation {shown}; the config of a run has none")


def apply_overrides(cfg: DictConfig, overrides: list[str], choices: dict[str, Any]) -> None:
    """Changes `cfg` as typed: values in place, and for a group choice that group alone."""
    groups = [name for name in cfg if (composing.config_dir() / str(name)).is_dir()]
    try:
        parsed = composing.parse_overrides(overrides)
    except HydraException:
        composing.compose(overrides)  # raises the UserError that says what is wrong
        raise
    for text, override in zip(overrides, parsed, strict=True):
        key = override.key_or_group
        if override.is_sweep_override():
            raise UserError(f"`{text}` gives several values; a run goes on with one")
        if key.split(".")[0] == "hydra":
            raise UserError(f"`{text}`: hydra's own settings belong to `dltrain train`")
        if key in groups and not isinstance(override.value(), dict):
            cfg[key] = composing.compose([text])[key]
            choices[key] = override.value()
        else:
            set_value(cfg, text, override)


def set_value(cfg: DictConfig, text: str, override: Any) -> None:
    key = override.key_or_group
    try:
        if override.is_delete():
            parent, _, last = key.rpartition(".")
            node = OmegaConf.select(cfg, parent) if parent else cfg
            OmegaConf.set_struct(node, False)
            del node[last]
            OmegaConf.set_struct(node, None)
        else:
            OmegaConf.update(cfg, key, override.value(), force_add=override.is_add())
    except (OmegaConfBaseException, AttributeError, KeyError, TypeError) as error:
        known = composing.dotted_keys(OmegaConf.to_container(cfg))
        if key in known:
            raise UserError(type_error(error)) from error
        near = did_you_mean(key, known)
        raise UserError(f"there is no config key `{key}`{'; ' + near if near else ''}") from error
