"""Short, readable, file-system-safe names for what a run changes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

MAX_LENGTH = 80
SKIPPED = (
    "resume", "loggers", "dataset.root", "dataset.download", "dataset.cache",
    "dataset.cache_limit_gb", "trainer.device", "trainer.log_every",
)  # fmt: skip


def run_label(overrides: Sequence[str], only: Sequence[str] | None = None) -> str:
    """`_lr=0.1_model=cnn` from `["optimizer.lr=0.1", "model=cnn"]`; or nothing.

    `only` restricts it to those keys: in a sweep, to what the sweep varies. Cut at 80 characters,
    where a digest of the rest keeps names apart.
    """
    parts = []
    named = any(text.startswith("name=") for text in overrides)
    skipped = SKIPPED if named or only is not None else (*SKIPPED, "dataset", "model")
    for text in overrides:
        key, equals, value = text.lstrip("+").partition("=")
        if (
            key.split(".")[0] in ("hydra", "name", "sweep")
            or key in skipped
            or (only is not None and key not in only)
        ):
            continue
        # Without its brackets: the - that would stand for them is a minus to whoever reads [8]
        parts.append(key.rpartition(".")[2] + equals + value.strip("[](){}'\" "))
    label = "_".join(re.sub(r"[^A-Za-z0-9_=.+~-]+", "-", part).strip("-") for part in parts)
    if len(label) > MAX_LENGTH:
        label = label[: MAX_LENGTH - 9] + "-" + hashlib.sha256(label.encode()).hexdigest()[:8]
    return f"_{label}" if label else ""
