"""argv's overrides -> a composed config, by Hydra, with errors that say what to do.

Beside commands/train.py, which needs Hydra's own argument parser, the only file that touches its
internals, and the only one that names its version.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dltrain.config.bombs import refuse_bombs
from dltrain.config.folder import config_dir as config_dir
from dltrain.config.labels import run_label
from dltrain.config.messages import explain_compose_error
from dltrain.config.oddities import refuse_oddity
from dltrain.config.schema import PackConfig
from dltrain.config.sweep import composed_schema
from dltrain.errors import UserError

VERSION_BASE = "1.3"
# Keys of launchers that hold what sbatch and Ray take, by the config that has nothing but them
OPEN_KEYS = {"_sbatch": ("additional_parameters",), "_ray": ("ray.init", "ray.remote")}
INTERNAL = {"hydra/sweeper": "recorded"}  # of `dltrain resume SWEEP` alone
# Hydra meets odd input with errors of its own, of OmegaConf's, of yaml's and of python's
COMPOSE_ERRORS = (
    HydraException,
    OmegaConfBaseException,
    YAMLError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    AssertionError,
    RecursionError,
)


def register() -> None:
    """Makes the schema and our resolver known to Hydra; safe to call twice.

    Our launcher takes the name of Hydra's own, which keeps no record of its jobs.
    """
    import hydra._internal.core_plugins.basic_launcher  # noqa: F401  # it takes the name, too

    target = {"_target_": "hydra_plugins.dltrain.launchers.BasicLauncher"}
    store = ConfigStore.instance()
    store.store(name="schema", node=composed_schema(), provider="dltrain")
    store.store(name="prepare_schema", node=PackConfig, provider="dltrain")
    store.store(group="hydra/launcher", name="basic", node=target, provider="dltrain")
    for name, keys in OPEN_KEYS.items():
        store.store(group="hydra/launcher", name=name, node=opened(keys), provider="dltrain")
    OmegaConf.register_new_resolver("run_label", run_label, replace=True)


def opened(keys: Sequence[str]) -> DictConfig:
    """For the launchers that build on it: these take keys of the user's own without a +."""
    node = OmegaConf.create({})
    for key in keys:
        OmegaConf.update(node, key, {}, force_add=True)
        OmegaConf.set_struct(OmegaConf.select(node, key), False)
    return node


@contextmanager
def hydra_session(user_config_dir: str | None = None) -> Iterator[Hydra]:
    """Hydra on our configs, those in `user_config_dir` in front; torn down again."""
    search_path = create_config_search_path(f"file://{config_dir()}")
    assert isinstance(search_path, ConfigSearchPathImpl)
    if user_config_dir is not None:
        folder = os.path.abspath(user_config_dir)
        if not os.path.isdir(folder):
            raise UserError(f"--config-dir: there is no folder {folder}")
        refuse_bombs(Path(folder))
        search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    setbase(VERSION_BASE)
    register()
    try:
        yield Hydra.create_main_hydra2("dltrain", search_path)
    finally:
        GlobalHydra.instance().clear()


def compose(
    overrides: Sequence[str], *, config_name: str = "train", user_config_dir: str | None = None
) -> DictConfig:
    """The composed config with its `hydra` node, interpolations not yet resolved.

    Raises UserError: the key, the rule and the near names, for whatever Hydra or OmegaConf found.
    """
    with hydra_session(user_config_dir) as hydra:
        try:
            refuse_duplicates(overrides)
            cfg = compose_within(hydra, config_name, overrides)
        except COMPOSE_ERRORS as error:
            message = explain_compose_error(error, overrides, Choices(hydra, config_name))
            raise UserError(message) from error
    if cfg.hydra.job.env_set:
        name = next(iter(cfg.hydra.job.env_set))
        raise UserError(
            "hydra.job.env_set is not used: the libraries that read such variables do so earlier\n"
            f"put it in front of the command: {name}=... dltrain train"
        )
    HydraConfig.instance().set_config(cfg)  # what ${hydra:...} reads
    return cfg


def compose_within(hydra: Hydra, config_name: str, overrides: Sequence[str]) -> DictConfig:
    return hydra.compose_config(
        config_name=config_name,
        overrides=list(overrides),
        run_mode=RunMode.RUN,
        with_log_configuration=False,
    )


def job_config(cfg: DictConfig) -> DictConfig:
    """`cfg` without Hydra's own node, and without that of the sweep that it may be a job of."""
    return OmegaConf.masked_copy(cfg, job_keys(cfg))


def job_keys(cfg: DictConfig) -> list[str]:
    return [str(key) for key in cfg if key not in ("hydra", "sweep")]


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    for text in overrides:  # before the grammar, which takes seconds over some of them
        refuse_oddity(text)
    return OverridesParser.create().parse_overrides(list(overrides))


def refuse_duplicates(overrides: Sequence[str]) -> None:
    """Hydra takes the last of two and says nothing; one of them is a mistake."""
    seen: dict[str, str] = {}
    for text, override in zip(overrides, parse_overrides(overrides), strict=True):
        key = override.get_key_element().lstrip("+~")
        if not key:
            raise UserError(f"`{text}` has no key; write key=value, such as seed=1")
        if key in seen:
            raise UserError(f"`{key}` is given twice: `{seen[key]}` and `{text}`; keep one of them")
        seen[key] = text


def is_offered(group: str, name: str) -> bool:
    return name[0] != "_" and name != INTERNAL.get(group)


class Choices:
    """What could have been meant: keys and groups, looked up only when something went wrong."""

    def __init__(self, hydra: Hydra, config_name: str) -> None:
        self.hydra, self.config_name = hydra, config_name

    def keys(self, overrides: Sequence[str] = ()) -> list[str]:
        """Every dotted key of the default config (with those `overrides` that compose)."""
        try:
            cfg = compose_within(self.hydra, self.config_name, overrides)
        except Exception:  # whatever was wrong is being reported already
            cfg = compose_within(self.hydra, "train", ())
        return [key for key in dotted_keys(OmegaConf.to_container(cfg)) if key[:6] != "hydra."]

    def of_hydra(self, overrides: Sequence[str]) -> tuple[list[str], str]:
        """Every dotted key of Hydra's own node, and the name of the launcher that it has."""
        chosen = [text for text in overrides if text.startswith("hydra/")]
        try:
            cfg = compose_within(self.hydra, self.config_name, chosen)
        except Exception:  # as above
            cfg = compose_within(self.hydra, "train", ())
        keys = dotted_keys(OmegaConf.to_container(OmegaConf.masked_copy(cfg, "hydra")))
        hidden = ("hydra.launcher._target_", "hydra.launcher._recursive_")
        launcher = str(cfg.hydra.runtime.choices["hydra/launcher"])
        return [key for key in keys if key not in hidden], launcher

    def groups(self) -> list[str]:
        loader = self.hydra.config_loader
        return [group for group in loader.list_groups("") if group != "hydra"]

    def options(self, group: str) -> list[str]:
        """Without those that are parts of others, or of a command's own."""
        found = self.hydra.config_loader.get_group_options(group)
        return [name for name in found if is_offered(group, name)]


def dotted_keys(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    found = []
    for key, value in node.items():
        found += [f"{prefix}{key}", *dotted_keys(value, f"{prefix}{key}.")]
    return found
