"""A process for one job, from its first import on: where a zygote cannot fork it."""

from __future__ import annotations

import os
import threading
from importlib import import_module
from typing import Any

from dltrain.sweeps.zygote import run


def main(setup: dict[str, Any]) -> None:
    """setup: `channel`, `lifeline` (closed when the parent is gone), and `entry`."""
    threading.Thread(target=end_with, args=(setup["lifeline"],), daemon=True).start()
    module, _, function = setup["entry"].partition(":")
    entry = getattr(import_module(module), function)
    run(entry, setup["channel"])


def end_with(lifeline: int) -> None:
    """Waits until no process holds the other end, and ends this one with its parent."""
    os.read(lifeline, 1)
    os._exit(1)
