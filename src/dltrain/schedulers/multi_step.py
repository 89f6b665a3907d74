"""A drop by the same factor at each of several points of the run."""

from __future__ import annotations

from bisect import bisect_right

from dltrain.schedulers.warmup import (
    SAME_POINT,
    RunFraction,
    Warmup,
    check_positive,
    check_run_fraction,
)


class MultiStep:
    """`gamma` to the number of milestones passed, as torch's MultiStepLR.

    Milestones are counted from the start of the run, whatever the warm-up, whose factor comes on
    top.

    Args:
        milestones: in the order in which they come.
    """

    def __init__(
        self,
        *,
        milestones: list[RunFraction],
        gamma: float,
        warmup: RunFraction = 0.0,
        warmup_start_factor: float = 0.01,
    ) -> None:
        self.warmup = Warmup(warmup, warmup_start_factor)
        self.milestones = [check_run_fraction("a milestone", each) for each in milestones]
        if self.milestones != sorted(self.milestones):
            listed = ", ".join(f"{100 * each:g}%" for each in milestones)
            raise ValueError(f"milestones are {listed} of the run; each must follow the one before")
        self.gamma = check_positive("gamma", gamma)

    def __call__(self, progress: float) -> float:
        """The factor on each group's lr at `progress` in [0, 1]."""
        passed = bisect_right(self.milestones, progress + SAME_POINT)
        return self.warmup.factor(progress) * self.gamma**passed
