"""The jobs of a sweep -> composed configs: most of them differ in values alone, which is quick.

As config/compose.py, it touches Hydra's internals.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, open_dict

from dltrain.config import compose as composing
from dltrain.config.messages import explain_compose_error
from dltrain.errors import UserError


class Composer:
    """Composes jobs one after another, as `compose` does each; use it as a context.

    What chooses configs, adds or deletes is composed once for all jobs that share it (80 ms); plain
    `key=value` is then applied to a copy, by the function that Hydra itself calls.
    """

    def __init__(self, *, config_name: str = "train", user_config_dir: str | None = None) -> None:
        self.config_name, self.user_config_dir = config_name, user_config_dir
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def __enter__(self) -> Composer:
        self._stack = ExitStack()
        self._hydra = self._stack.enter_context(composing.hydra_session(self.user_config_dir))
        self._groups = set(self.choices.groups())
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    @property
    def choices(self) -> composing.Choices:
        return composing.Choices(self._hydra, self.config_name)

    def options(self, group: str) -> list[str]:
        """What can be chosen in a group; nothing where there is no such group."""
        return self.choices.options(group) if group in self._groups else []

    def __call__(self, overrides: Sequence[str], number: int) -> DictConfig:
        """The config of a job with its `hydra` node, which `${hydra:...}` now reads, too.

        Raises UserError: the key, the rule and the near names.
        """
        try:
            composing.refuse_duplicates(overrides)
            cfg = self._compose(overrides)
        except composing.COMPOSE_ERRORS as error:
            raise UserError(explain_compose_error(error, overrides, self.choices)) from error
        with open_dict(cfg):
            cfg.hydra.job.num, cfg.hydra.job.id = number, str(number)
        HydraConfig.instance().set_config(cfg)
        return cfg

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        parsed = composing.parse_overrides(overrides)
        simple = [each for each in parsed if self._is_simple(each)]
        rest = tuple(str(each.input_line) for each in parsed if not self._is_simple(each))
        if rest not in self._composed:
            self._composed[rest] = composing.compose_within(self._hydra, self.config_name, rest)
        cfg = copy.deepcopy(self._composed[rest])
        ConfigLoaderImpl._apply_overrides_to_config(simple, cfg)
        own = [each for each in parsed if not each.is_hydra_override()]
        names = cfg.hydra.job.config.override_dirname
        with open_dict(cfg.hydra):
            cfg.hydra.overrides.task = [each.input_line for each in own]
            cfg.hydra.job.override_dirname = get_overrides_dirname(
                overrides=own,
                kv_sep=names.kv_sep,
                item_sep=names.item_sep,
                exclude_keys=names.exclude_keys,
            )
        return cfg

    def _is_simple(self, override: Override) -> bool:
        return (
            override.type == OverrideType.CHANGE
            and override.package is None
            and not override.is_hydra_override()
            and override.key_or_group not in self._groups
            and "/" not in override.key_or_group
            and not isinstance(override.value(), dict)
        )
