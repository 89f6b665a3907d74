"""When things happen in a run, and when it is over."""

from __future__ import annotations

from dataclasses import dataclass

# Reasons to stop. Those in PASSING end with the process; others, such as early stopping, do not.
SIGNAL, MAX_TIME, PRUNED = "signal", "max_time", "pruned"
PASSING = (SIGNAL, MAX_TIME, PRUNED)


@dataclass(frozen=True)
class Plan:
    """Everything in optimizer steps."""

    num_steps: int | None  # None: only time ends the run
    max_time_sec: float
    log_every: int
    eval_every: int
    save_every: int
    steps_per_epoch: int
    in_epochs: bool = False  # num_steps is a number of epochs times steps_per_epoch
