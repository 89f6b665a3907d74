"""What Hydra does itself, started by us, and what it knows of a job that it has composed."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import OmegaConfDumper, get_omega_conf_dumper
from omegaconf.errors import OmegaConfBaseException

from dltrain.config import compose as composing
from dltrain.config.messages import explain_resolution_error, first_lines, shorten
from dltrain.errors import UserError

MAX_PATH = 3000  # of the 4096 of a path: the run's own files need a part


def through_hydra(
    argv: list[str],
    task: Callable[[DictConfig], Any] = lambda cfg: None,
    program: str = "dltrain train",
) -> int:
    """What Hydra does itself: --help, --cfg, --info, --hydra-help, completion, and sweeps."""
    composing.register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here, instead of to the screen
    logging.raiseExceptions = False  # `--info | head` is no error to report line by line
    saved, sys.argv = sys.argv, [program, *argv]
    try:
        decorated = hydra.main(
            version_base=composing.VERSION_BASE,
            config_path=str(composing.config_dir()),
            config_name="train",
        )(task)
        decorated()
    except composing.COMPOSE_ERRORS as error:
        if isinstance(error, OSError) and not isinstance(error, HydraException):
            raise  # the screen's, not the config's
        raise UserError(first_lines(str(error).strip("'"))) from error
    except RuntimeError as error:
        if not str(error).startswith("Invalid plugin"):
            raise
        raise UserError(
            f"{first_lines(str(error))}: hydra.launcher and hydra.sweeper are chosen as groups, "
            "such as hydra/launcher=basic"
        ) from error
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    finally:
        sys.argv = saved
    return 0


def resolve_dir(cfg: DictConfig, key: str) -> Path:
    try:
        text = str(OmegaConf.select(cfg, key, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise UserError(explain_resolution_error(error)) from None
    if not text.strip() or "\0" in text:
        raise UserError(f"{key} is {text!r}; it must be the path of a folder")
    if len(os.fsencode(text)) > MAX_PATH or max(map(len, map(os.fsencode, Path(text).parts))) > 255:
        raise UserError(
            f"{key} is {shorten(text, 100)}; a name in it may have 255 bytes, the whole {MAX_PATH}"
        )
    return Path(text)


def choices_of(cfg: DictConfig) -> dict[str, Any]:
    """Which config was chosen in each of our groups: `{"model": "mlp", ...}`."""
    choices = OmegaConf.to_container(cfg.hydra.runtime.choices)
    assert isinstance(choices, dict)
    return {str(k): v for k, v in choices.items() if "hydra" not in str(k) and v is not None}


def hydra_files(cfg: DictConfig) -> dict[str, str]:
    """Hydra's own record of a job, as Hydra itself would write it into `.hydra/`."""
    content: Any = OmegaConf.to_container(cfg, enum_to_str=True)  # nothing is resolved
    hydra_node = content["hydra"]
    return {
        "config.yaml": as_omegaconf({k: content[k] for k in composing.job_keys(cfg)}),
        "overrides.yaml": as_omegaconf(hydra_node["overrides"]["task"]),
        "hydra.yaml": as_omegaconf({"hydra": hydra_node}),
    }


def as_omegaconf(content: Any) -> str:
    """What `OmegaConf.to_yaml` gives of it, by libyaml in a tenth of the time."""
    try:
        return dumped(content, Emitter)
    except UnicodeEncodeError:  # a path that is no text: libyaml knows no way to write it
        return dumped(content, get_omega_conf_dumper())


def dumped(content: Any, dumper: Any) -> str:
    text = yaml.dump(
        content, Dumper=dumper, default_flow_style=False, allow_unicode=True, sort_keys=False
    )
    return str(text)


class Emitter(getattr(yaml, "CDumper", yaml.Dumper)):  # type: ignore[misc]
    """With quotes where OmegaConf has them: what reads like a number."""


Emitter.add_representer(str, OmegaConfDumper.str_representer)
