"""Half a cosine from the full learning rate to its final one."""

from __future__ import annotations

import math

from dltrain.schedulers.warmup import RunFraction, Warmup, check_within


class Cosine:
    """As torch's CosineAnnealingLR over what follows the warm-up (Loshchilov and Hutter 2017).

    Args:
        final_factor: where it ends, at progress 1: the step after the last.
    """

    def __init__(
        self,
        *,
        final_factor: float,
        warmup: RunFraction = 0.0,
        warmup_start_factor: float = 0.01,
    ) -> None:
        self.warmup = Warmup(warmup, warmup_start_factor)
        self.final_factor = check_within("final_factor", final_factor, 0.0, 1.0)

    def __call__(self, progress: float) -> float:
        """The factor on each group's lr at `progress` in [0, 1]."""
        fall = (1.0 + math.cos(math.pi * self.warmup.rest(progress))) / 2.0
        decayed = self.final_factor + (1.0 - self.final_factor) * fall
        return self.warmup.factor(progress) * decayed
