"""The linear warm-up that every schedule can begin with, and the checks that they share."""

from __future__ import annotations

import math
from dataclasses import dataclass

# A share of the run, in [0, 1]. Configs write it as a duration: `5%`, `500 steps`, `2 epochs`.
RunFraction = float

# Below this two points of a run are the same; a run of 1e9 steps would have to be shorter still.
SAME_POINT = 1e-10


@dataclass(frozen=True)
class Warmup:
    """A rise from `start_factor` to 1 over the first `length` of the run, as torch's LinearLR."""

    length: RunFraction
    start_factor: float

    def __post_init__(self) -> None:
        check_run_fraction("warmup", self.length, at_start=True)
        check_within("warmup_start_factor", self.start_factor, 0.0, 1.0)

    def factor(self, progress: float) -> float:
        """What the schedule is multiplied by; 1 once the warm-up is over."""
        if progress >= self.length:
            return 1.0
        return self.start_factor + (1.0 - self.start_factor) * progress / self.length

    def rest(self, progress: float) -> float:
        """Progress in [0, 1] within what follows the warm-up; 0 as long as that lasts."""
        if progress <= self.length or self.length == 1.0:
            return 0.0
        return min((progress - self.length) / (1.0 - self.length), 1.0)


def check_within(name: str, value: float, low: float, high: float) -> float:
    """`value`, or ValueError where it is not from `low` to `high`."""
    if not low <= value <= high:
        raise ValueError(f"{name} is {value:g}; it must be from {low:g} to {high:g}")
    return value


def check_run_fraction(name: str, value: RunFraction, *, at_start: bool = False) -> RunFraction:
    """`value`, or ValueError where it is no point of the run; its start is one if `at_start`."""
    if 0.0 < value <= 1.0 or (at_start and value == 0.0):
        return value
    low = ">= 0" if at_start else "> 0"
    cure = ": shorten it, or train longer" if value > 1.0 else ""
    raise ValueError(f"{name} is {100 * value:g}% of the run; it must be {low} and <= 100%{cure}")


def check_positive(name: str, value: float) -> float:
    """`value`, or ValueError where it is not a finite number above 0."""
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} is {value:g}; it must be a number > 0")
    return value
