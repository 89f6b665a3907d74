"""Settings that are another's value in the config: `eval_batch_size: ${.batch_size}`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from dltrain import plain, runs
from dltrain.compare.run import Run
from dltrain.durable import irregular

REFERENCE = re.compile(r"\$\{(\.*)([\w.]+)\}")  # of another key, and of nothing else


def is_reference(key: str, others: Sequence[str], found: Sequence[Run]) -> bool:
    """Whether the config of any of the runs, as it was before it was resolved, has one of `others`
    as the value of `key`. A run whose `.hydra` cannot be read says nothing.

    One is enough where all have equal values of both: who types the value that it would have had
    changes nothing.
    """
    return bool(others) and any(referred(key, run) in others for run in found)


def referred(key: str, run: Run) -> str:
    """The key that `key` refers to; nothing where it has a value of its own."""
    *parents, last = key.split(".")
    place: Any = unresolved(run)
    for parent in parents:
        place = place.get(parent) if isinstance(place, dict) else None
    value = place.get(last) if isinstance(place, dict) else None
    match = REFERENCE.fullmatch(value[:1000]) if isinstance(value, str) else None
    return ".".join(absolute(match[1], match[2], parents)) if match else ""


def absolute(dots: str, name: str, parents: Sequence[str]) -> Iterator[str]:
    """As OmegaConf counts: `.` is beside the key, `..` beside its parent."""
    if dots:
        yield from parents[: max(0, len(parents) + 1 - len(dots))]
    yield name


def unresolved(run: Run) -> Any:
    folder = run.path / runs.HYDRA
    try:
        return None if irregular(folder) else plain.read_yaml(folder / runs.CONFIG)
    except plain.PLAIN_ERRORS:
        return None
