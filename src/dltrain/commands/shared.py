"""What jobs that are trained together have in common, made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shared:
    """make_loader and make_saver take the place of those of a run alone; surroundings: see
    `provenance.surroundings`; fingerprint: of the data."""

    make_loader: Callable[..., Any]
    make_saver: Callable[..., Any]
    surroundings: dict[str, Any]
    fingerprint: dict[str, str]
