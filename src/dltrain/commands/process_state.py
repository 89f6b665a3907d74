"""What a run sets for its whole process, put back for a program that outlives the run."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def process_as_found() -> Iterator[None]:
    """Generators, threads, determinism and how fp32 is multiplied are afterwards as before.

    Torch may be imported only within: then it is left as it begins, but for its generators, which
    nobody has used yet.
    """
    python, numpy = random.getstate(), sys.modules.get("numpy")
    numbers = numpy.random.get_state() if numpy else None
    before = snapshot() if "torch" in sys.modules else None
    try:
        yield
    finally:
        if "dltrain.engine.device" in sys.modules:
            restore(before)
        random.setstate(python)
        if numpy:
            numpy.random.set_state(numbers)


def snapshot() -> tuple[Any, Any]:
    import torch

    from dltrain.engine.device import process_settings
    from dltrain.engine.seeding import random_state

    return process_settings(), random_state(torch.device("cpu"))


def restore(before: tuple[Any, Any] | None) -> None:
    import torch

    from dltrain.engine.device import FOUND, restore_process
    from dltrain.engine.seeding import set_random_state

    settings, generators = before or (FOUND, None)
    restore_process(settings)
    if generators is not None:
        set_random_state(generators, torch.device("cpu"))
