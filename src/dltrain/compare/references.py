"""Settings that are another's value in the config: `eval_batch_size: ${.batch_size}`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from dltrain import plain, runs
from dltrain.compare.run import Run
from dltrain.durable import irregular

REFERENCE = re.compile(r"\$\{(\.*)([\w.]+)\}")  # of another key, and of nothing else


def referring(groups: Collection[Sequence[str]], found: Sequence[Run]) -> set[str]:
    """Of keys that have equal values in every run, group by group, those that the config of any of
    the runs, before it was resolved, sets to another of their group. A run whose `.hydra` cannot be
    read says nothing.

    One run is enough: who types the value that a key would have had changes nothing. Each file is
    read once, and none where no two keys are equal.
    """
    others = {key: set(group) - {key} for group in groups if len(group) > 1 for key in group}
    result: set[str] = set()
    for run in found if others else ():
        config = unresolved(run)
        result |= {key for key, names in others.items() if referred(key, config) in names}
        if all(names & result or key in result for key, names in others.items()):
            break
    # A stranger's may go in a circle: what differs is then shown whole
    return result - {key for group in groups if result.issuperset(group) for key in group}


def referred(key: str, config: Any) -> str:
    """The key that `key` refers to; nothing where it has a value of its own."""
    *parents, last = key.split(".")
    for parent in parents:
        config = config.get(parent) if isinstance(config, dict) else None
    value = config.get(last) if isinstance(config, dict) else None
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
