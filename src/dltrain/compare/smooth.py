"""Curves that are smoothed, and their mean and spread over runs. Lists of numbers, no drawing."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dltrain.compare.curves import Curve


@dataclass(frozen=True)
class Line:
    """The mean of `n` runs by step, and the sample standard deviation there (0 of one run)."""

    label: str
    n: int
    steps: list[int]
    means: list[float]
    stds: list[float]


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average, corrected for its start as Adam's are (arXiv:1412.6980):
    the first value is itself, and a constant stays one."""
    result, average, total = [], 0.0, 0.0
    for value in values:
        average = weight * average + (1 - weight) * value
        total = weight * total + (1 - weight)
        result.append(average / total)
    return result


def line_over(label: str, curves: Sequence[Curve], weight: float) -> Line:
    """Each curve is smoothed by itself; then mean and deviation at the steps that all of them
    have: a run that ended early would else make the mean jump."""
    by_step: dict[int, list[float]] = defaultdict(list)
    for curve in curves:
        for step, value in zip(curve.steps, smoothed(curve.values, weight), strict=True):
            by_step[step].append(value)
    steps = sorted(step for step, values in by_step.items() if len(values) == len(curves))
    means = [math.fsum(by_step[step]) / len(by_step[step]) for step in steps]
    stds = [deviation(by_step[step], mean) for step, mean in zip(steps, means, strict=True)]
    return Line(label, len(curves), steps, means, stds)


def deviation(values: Sequence[float], mean: float) -> float:
    if len(values) < 2:
        return 0.0
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
