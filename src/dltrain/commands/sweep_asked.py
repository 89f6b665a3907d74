"""What `sweep.json` says of a sweep: the command that began it, and its settings."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dltrain.commands import provenance
from dltrain.config.sweep import check_sweep


def asked_of(
    argv: Sequence[str], typed: Sequence[str], allowed: Sequence[str], cfg: DictConfig
) -> dict[str, Any]:
    """What `sweep.json` says of the command; `settings` is the `sweep` node."""
    choices = cfg.hydra.runtime.choices
    # The sweep's own directory is known by where its ledger lies
    hydra = [
        text
        for text in typed
        if text.startswith(("hydra.", "hydra/")) and not text.startswith("hydra.sweep.dir=")
    ]
    return {
        "command": shlex.join(["dltrain", *argv[1:]]),
        "overrides": list(typed),
        "hydra": hydra,
        "allowed": list(allowed),
        "launcher": str(choices.get("hydra/launcher")),
        "sweeper": str(choices.get("hydra/sweeper")),
        "settings": check_sweep(OmegaConf.select(cfg, "sweep")),
        "started": round(time.time(), 3),
        "versions": provenance.versions(),
    }
