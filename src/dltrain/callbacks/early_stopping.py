"""Ends a run that does not get better."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dltrain.engine.callback import Callback

if TYPE_CHECKING:
    from dltrain.engine.trainer import Trainer


class EarlyStopping(Callback):
    """Stops after `patience` evaluations in a row without a new best value of `monitor`.

    NaN is no improvement. Reaching the best value again is none either.

    Args:
        monitor: a metric and its split, such as `accuracy/val`.
        mode: `max` where more is better, `min` where less is.
        patience: in evaluations, not epochs.
        min_delta: what must be gained over the best value to count, in units of the metric.
    """

    def __init__(self, *, monitor: str, mode: str, patience: int, min_delta: float) -> None:
        if not all(monitor.rpartition("/")):
            _refuse("monitor", monitor, "name a metric and its split, such as accuracy/val")
        if mode not in ("max", "min"):
            _refuse("mode", mode, "be max or min")
        if patience < 1:
            _refuse("patience", patience, "be >= 1, in evaluations")
        if not min_delta >= 0:
            _refuse("min_delta", min_delta, "be >= 0; mode says in which direction")
        self.monitor = monitor
        self.sign = 1 if mode == "max" else -1
        self.patience = patience
        self.min_delta = min_delta
        self.best: float | None = None
        self.num_stale = 0

    def on_evaluate(self, trainer: Trainer, split: str, metrics: dict[str, float]) -> None:
        value = trainer.metrics.get(self.monitor)
        if value is None:  # one of train, which has not been logged yet
            return
        if self._is_better(value):
            self.best, self.num_stale = value, 0
            return
        self.num_stale += 1
        if self.num_stale >= self.patience:
            trainer.stop(self._reason())

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "num_stale": self.num_stale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.num_stale = state["best"], state["num_stale"]

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        return self.sign * (value - self.best) > self.min_delta

    def _reason(self) -> str:
        evaluations = "1 evaluation" if self.num_stale == 1 else f"{self.num_stale} evaluations"
        if self.best is None:
            return f"early stopping: {self.monitor} was not a number in {evaluations}"
        return f"early stopping: {self.monitor} not better than {self.best:.6g} in {evaluations}"


def _refuse(key: str, value: object, rule: str) -> None:
    raise ValueError(f"callbacks.early_stopping.{key} is {value}; it must {rule}")
