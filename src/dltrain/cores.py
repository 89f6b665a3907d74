"""How many cores this process may use: all that it is given, or its share beside other jobs."""

from __future__ import annotations

import os

_share: int | None = None


def available() -> int:
    """The cores that the process may run on, or fewer where it has a `share` of them."""
    return min(given(), _share or given())


def given() -> int:
    """The cores that the system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def take_share(num_cores: int) -> None:
    """From here on `available` gives at most so many: for a process that is not alone.

    The process is not bound to them: whoever else computes here would be bound to the same.
    """
    global _share
    _share = max(1, num_cores)
