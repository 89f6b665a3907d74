"""A drop by the same factor after every stretch of the run."""

from __future__ import annotations

import math

from dltrain.schedulers.warmup import (
    SAME_POINT,
    RunFraction,
    Warmup,
    check_positive,
    check_run_fraction,
)


class Step:
    """`gamma` to the number of whole stretches done, as torch's StepLR.

    Stretches are counted from the start of the run, whatever the warm-up, whose factor comes on
    top.

    Args:
        every: how long a stretch is.
    """

    def __init__(
        self,
        *,
        every: RunFraction,
        gamma: float,
        warmup: RunFraction = 0.0,
        warmup_start_factor: float = 0.01,
    ) -> None:
        self.warmup = Warmup(warmup, warmup_start_factor)
        self.every = check_run_fraction("every", every)
        self.gamma = check_positive("gamma", gamma)

    def __call__(self, progress: float) -> float:
        """The factor on each group's lr at `progress` in [0, 1]."""
        stretches = math.floor((progress + SAME_POINT) / self.every)
        return self.warmup.factor(progress) * self.gamma**stretches
