"""Two runs of one config: which of their numbers and weights are the same, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltrain import runs
from dltrain.errors import UserError
from dltrain.trained import read_rows

# What no two runs share: when it was, and how fast
OF_TIME = ("time", "samples_per_sec", "data_share")
PLACE = ("step", "epoch", "split")


@dataclass
class Compared:
    """One metric of one split over all rows that both runs have."""

    rows: int = 0
    different: int = 0
    first_step: int | None = None  # where it differs first
    largest: float = 0.0  # difference


@dataclass
class Sameness:
    """weights: None where one of the runs has none to compare; else their largest difference,
    0.0 of files that are equal byte by byte. lone: rows that only one of them has."""

    metrics: dict[str, Compared] = field(default_factory=dict)
    lone: int = 0
    weights: float | None = None

    @property
    def rows(self) -> int:
        return max((each.rows for each in self.metrics.values()), default=0)

    @property
    def same(self) -> bool:
        """Of nothing that could be compared nothing is said to be the same."""
        differ = self.lone or self.weights or any(m.different for m in self.metrics.values())
        return bool(self.metrics) and not differ


def compare_runs(old: Path, new: Path, *, completed: bool) -> Sameness:
    """completed: whether `old` has come to its end; if not, only what both have is compared."""
    found = Sameness()
    before, after = (dict(rows_by_place(run)) for run in (old, new))
    shared = [place for place in before if place in after]
    if completed:
        found.lone = len(before) + len(after) - 2 * len(shared)
    for place in shared:
        compare_rows(found, before[place], after[place])
    if completed:
        found.weights = compare_weights(old / runs.WEIGHTS, new / runs.WEIGHTS)
    return found


def rows_by_place(run: Path) -> Iterator[tuple[tuple[Any, Any], dict[str, Any]]]:
    for row in read_rows(run / runs.METRICS):
        step, split = row.get("step"), row.get("split")
        if runs.is_count(step) and split in ("train", "val", "test"):
            yield (step, split), row


def compare_rows(found: Sameness, old: dict[str, Any], new: dict[str, Any]) -> None:
    for name in [*old, *(name for name in new if name not in old)]:
        if name in OF_TIME or name in PLACE:
            continue
        metric = found.metrics.setdefault(f"{name}/{old['split']}", Compared())
        metric.rows += 1
        pair = old.get(name), new.get(name)
        if pair[0] == pair[1]:
            continue
        metric.different += 1
        if metric.first_step is None:
            metric.first_step = new["step"]
        metric.largest = max(metric.largest, distance(*pair))


def distance(one: Any, other: Any) -> float:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (one, other))
    try:
        return abs(float(one) - float(other)) if numbers else float("inf")
    except OverflowError:  # JSON knows no largest number
        return float("inf")


def compare_weights(old: Path, new: Path) -> float | None:
    """The largest difference of any weight; infinity where they are not of one model."""
    from dltrain.engine.tensors import read_tensors

    if not old.is_file() or not new.is_file():
        return None
    try:
        before, after = read_tensors(old), read_tensors(new)
    except (OSError, ValueError) as error:
        raise UserError(f"the weights cannot be compared: {error}") from error
    if before.keys() != after.keys():
        return float("inf")
    largest = 0.0
    for name, tensor in before.items():
        other = after[name]
        if tensor.shape != other.shape or tensor.dtype != other.dtype:
            return float("inf")
        if not tensor.equal(other):
            apart = float((tensor.double() - other.double()).abs().max())
            largest = max(largest, apart if apart > 0 else float("inf"))  # nor a NaN
    return largest
