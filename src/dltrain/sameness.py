"""Two runs of one config: which of their numbers and weights are the same, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain import runs
from dltrain.durable import check_digest
from dltrain.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

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
    """What two runs share, and how far it is apart.

    weights: their largest difference, infinity where they are not of one model; None where one of
    the runs has none to compare. lone: rows, or numbers of a row, that only one of them has.
    """

    metrics: dict[str, Compared] = field(default_factory=dict)
    lone: int = 0
    weights: float | None = None
    has_ended: bool = True  # then weights are to be compared

    @property
    def differs(self) -> bool:
        return bool(self.lone or self.weights or any(m.different for m in self.metrics.values()))

    @property
    def same(self) -> bool:
        """Of nothing that could be compared nothing is said to be the same."""
        is_compared = bool(self.metrics) and not (self.has_ended and self.weights is None)
        return is_compared and not self.differs


def compare_runs(old: Path, new: Path, *, completed: bool) -> Sameness:
    """completed: whether `old` has come to its end; if not, only what both have is compared.

    `old` may be a stranger's: memory is that of the rows of `new`.
    """
    found = Sameness(has_ended=completed)
    left = dict(rows_by_place(new))
    for place, row in rows_by_place(old):
        if place in left:
            compare_rows(found, row, left.pop(place))
        else:
            found.lone += completed
    if completed:
        found.lone += len(left)
        found.weights = compare_weights(old / runs.WEIGHTS, new / runs.WEIGHTS)
    return found


def check_comparable(run: Path, *, completed: bool) -> None:
    """Raises UserError for what `compare_runs` would find of `run` after hours of training."""
    for _ in rows_by_place(run):
        pass
    weights, sha256 = run / runs.WEIGHTS, runs.read_json(run / runs.SUMMARY).get(runs.DIGEST)
    if not completed or not weights.is_file():
        return
    try:
        check_digest(weights, sha256)
        if sha256 is None:
            from dltrain.engine.tensors import read_tensors

            read_tensors(weights)
    except (OSError, ValueError) as error:
        raise UserError(f"{weights} cannot be compared: {error}") from error


def rows_by_place(run: Path) -> Iterator[tuple[tuple[Any, Any], dict[str, Any]]]:
    for row in runs.read_rows(run):
        step, split = row.get("step"), row.get("split")
        if runs.is_count(step) and split in ("train", "val", "test"):
            yield (step, split), row


def compare_rows(found: Sameness, old: dict[str, Any], new: dict[str, Any]) -> None:
    found.lone += len(old.keys() - new.keys() - set(OF_TIME))
    for name in new.keys() - {*OF_TIME, *PLACE}:
        metric = found.metrics.setdefault(f"{name}/{new['split']}", Compared())
        metric.rows += 1
        if name in old and repr(old[name]) == repr(new[name]):  # 0.0 == -0.0, and no NaN is itself
            continue
        metric.different += 1
        if metric.first_step is None:
            metric.first_step = new["step"]
        metric.largest = max(metric.largest, distance(old.get(name), new[name]))


def distance(one: Any, other: Any) -> float:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (one, other))
    try:
        apart = abs(float(one) - float(other)) if numbers else math.inf
    except OverflowError:  # JSON knows no largest number
        return math.inf
    return math.inf if math.isnan(apart) else apart


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
        return math.inf
    largest = 0.0
    for name, tensor in before.items():
        other = after[name]
        if tensor.shape != other.shape or tensor.dtype != other.dtype:
            return math.inf
        largest = max(largest, furthest(tensor, other))
    return largest


def furthest(one: Tensor, other: Tensor) -> float:
    """The largest difference of two tensors of one shape and type; 0 only for the same bytes."""
    import torch

    bytes_of = [each.contiguous().reshape(-1).view(torch.uint8) for each in (one, other)]
    if bytes_of[0].equal(bytes_of[1]):
        return 0.0
    both_nan = one.isnan() & other.isnan()
    apart = (one.double() - other.double()).abs()[~both_nan & (one != other)]
    if not len(apart):  # 0.0 and -0.0, or another NaN: differences that no subtraction shows
        return math.ulp(0.0)
    value = float(apart.max())
    return math.inf if math.isnan(value) else value
