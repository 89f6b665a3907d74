"""One rise to the full learning rate and one fall far below where it began."""

from __future__ import annotations

import math
from typing import Literal

from dltrain.schedulers.warmup import RunFraction, Warmup, check_positive, check_run_fraction


class OneCycle:
    """As torch's OneCycleLR, its learning rate alone (super-convergence, Smith and Topin 2018).

    The optimizer's lr is the peak (torch's `max_lr`). As in all schedules here the end belongs to
    progress 1, the step after the last; torch's cycle of n + 1 steps ends there too.

    Args:
        pct_start: how much of what follows the warm-up (all, if there is none) goes up; the rest
            goes down.
        div_factor: it starts at 1 / div_factor.
        final_div_factor: it ends at 1 / (div_factor * final_div_factor).
        anneal: the shape of both ways, half a cosine or a straight line.
    """

    def __init__(
        self,
        *,
        pct_start: RunFraction,
        div_factor: float,
        final_div_factor: float,
        anneal: Literal["cos", "linear"],
        warmup: RunFraction = 0.0,
        warmup_start_factor: float = 0.01,
    ) -> None:
        if anneal not in ("cos", "linear"):
            raise ValueError(f"anneal is {anneal!r}; it must be cos or linear")
        self.warmup = Warmup(warmup, warmup_start_factor)
        self.pct_start = check_run_fraction("pct_start", pct_start, at_start=True)
        self.start_factor = 1.0 / check_positive("div_factor", div_factor)
        self.final_factor = self.start_factor / check_positive("final_div_factor", final_div_factor)
        self.anneal = anneal

    def __call__(self, progress: float) -> float:
        """The factor on each group's lr at `progress` in [0, 1]."""
        rest = self.warmup.rest(progress)
        if rest < self.pct_start:
            cycle = self._between(self.start_factor, 1.0, rest / self.pct_start)
        elif self.pct_start < 1.0:
            way = (rest - self.pct_start) / (1.0 - self.pct_start)
            cycle = self._between(1.0, self.final_factor, way)
        else:
            cycle = 1.0
        return self.warmup.factor(progress) * cycle

    def _between(self, start: float, end: float, way: float) -> float:
        shape = (1.0 - math.cos(math.pi * way)) / 2.0 if self.anneal == "cos" else way
        return start + (end - start) * shape
