"""A composed config -> plain data that has been checked, with what only the data can tell."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dltrain import build
from dltrain.config.check import ROOMS, check
from dltrain.config.messages import explain_resolution_error
from dltrain.config.schema import TrainConfig
from dltrain.config.signatures import TargetError
from dltrain.config.targets import check_target
from dltrain.errors import UserError

AUTO = "auto"


def checked(
    cfg: DictConfig, *, allowed: Sequence[str] = (), schema: type = TrainConfig
) -> dict[str, Any]:
    """`check(cfg)`, after facts of the dataset that are `auto` were read from the data.

    Raises UserError.
    """
    read_facts(cfg, allowed)
    return check(cfg, allowed=allowed, schema=schema)


def read_facts(cfg: DictConfig, allowed: Sequence[str]) -> None:
    """Replaces `dataset.num_classes=auto` and its like: what depends on it is then resolved."""
    node: Any = OmegaConf.select(cfg, "dataset", throw_on_missing=False)
    raw = OmegaConf.to_container(node) if isinstance(node, DictConfig) else {}
    wanted = [key for key, value in raw.items() if value == AUTO] if isinstance(raw, dict) else []
    if not wanted:
        return
    try:
        node = OmegaConf.to_container(cfg.dataset, resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, RecursionError) as error:
        raise UserError(explain_resolution_error(error, cfg)) from error
    target = node.pop("_target_", None)
    try:
        check_target(str(target), allowed, rooms=ROOMS["dataset"])
    except TargetError as error:
        raise UserError(f"dataset._target_: {error}") from error
    dataset = build.locate(str(target), "dataset")
    if not hasattr(dataset, "read_facts"):
        raise UserError(
            f"dataset.{wanted[0]!s} is auto, but {target} does not find it out; give a value"
        )
    try:
        taken = signature(dataset.read_facts).parameters
        facts = dataset.read_facts(**{key: node[key] for key in taken if key in node})
    except Exception as error:  # somebody's own code may raise anything
        ours = isinstance(error, OSError | ValueError)
        raise UserError(str(error) if ours else f"{target}.read_facts: {error!r}") from error
    with open_dict(cfg.dataset):
        cfg.dataset.update({key: value for key, value in facts.items() if key in wanted})
