"""The same learning rate throughout."""

from __future__ import annotations

from dltrain.schedulers.warmup import RunFraction, Warmup


class Constant:
    """1, after the warm-up."""

    def __init__(self, *, warmup: RunFraction = 0.0, warmup_start_factor: float = 0.01) -> None:
        self.warmup = Warmup(warmup, warmup_start_factor)

    def __call__(self, progress: float) -> float:
        """The factor on each group's lr at `progress` in [0, 1]."""
        return self.warmup.factor(progress)
