"""Training metrics as exact sums, added on the device and read once an interval."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

FINITE = "samples of finite loss"  # beside the sums of metrics, which have names of one word


class Task(Protocol):
    """What the engine asks of a task; see `dltrain.tasks`."""

    def train(self, model: nn.Module, batch: Any) -> tuple[Tensor, tuple[Tensor, ...]]: ...
    def train_sums(self, *records: Tensor) -> dict[str, Tensor]: ...
    def evaluate(self, model: nn.Module, batch: Any) -> dict[str, Tensor]: ...


class TrainSums:
    """Keeps the losses and records of recent micro-batches, and reduces `limit` of them at a time.

    The state holds what is not reduced yet as it is, so that a resumed run adds the same numbers
    in the same order, and its metrics are bit for bit those of a run that was never stopped.
    """

    def __init__(self, task: Task, *, limit: int = 64) -> None:
        self.task, self.limit = task, limit
        self.losses: list[Tensor] = []
        self.counts: list[int] = []
        self.records: list[tuple[Tensor, ...]] = []
        self.totals: dict[str, Tensor] = {}
        self.num_samples = 0

    def add(self, loss: Tensor, count: int, record: tuple[Tensor, ...]) -> None:
        """`loss`: mean over `count` samples; `record`: tensors whose first dimension is `count`."""
        self.losses.append(loss.detach())
        self.counts.append(count)
        self.records.append(record)
        if len(self.losses) == self.limit:
            self.reduce()

    def reduce(self) -> None:
        if not self.losses:
            return
        losses = torch.stack(self.losses).double()
        counts = torch.tensor(self.counts, dtype=torch.float64, device=losses.device)
        # A loss that is not finite, of a step that was skipped, would hide all the others
        finite = losses.isfinite()
        sums = {"loss": losses.where(finite, 0.0).dot(counts), FINITE: counts.dot(finite.double())}
        sums |= self.task.train_sums(*map(torch.cat, zip(*self.records, strict=True)))
        for name, value in sums.items():
            total = self.totals.get(name)
            self.totals[name] = value.double() if total is None else total + value
        self.num_samples += sum(self.counts)
        self.losses, self.counts, self.records = [], [], []

    def read(self) -> dict[str, float]:
        """The means since the last reading; empties itself. One wait for the device."""
        self.reduce()
        if not self.num_samples:
            return {}
        values = torch.stack(list(self.totals.values())).tolist()
        sums = dict(zip(self.totals, values, strict=True))
        num_finite = sums.pop(FINITE)
        means = {name: value / self.num_samples for name, value in sums.items()}
        means["loss"] = sums["loss"] / num_finite if num_finite else math.nan
        self.totals, self.num_samples = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        pending = bool(self.losses)
        return {
            "totals": dict(self.totals),
            "num_samples": self.num_samples,
            "counts": list(self.counts),
            "losses": torch.stack(self.losses) if pending else None,
            "records": [torch.cat(r) for r in zip(*self.records, strict=True)] if pending else [],
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self.totals = {name: total.to(device) for name, total in state["totals"].items()}
        self.num_samples, self.counts = state["num_samples"], list(state["counts"])
        losses = state["losses"]
        self.losses = [] if losses is None else list(losses.to(device).unbind())
        columns = [column.to(device).split(self.counts) for column in state["records"]]
        self.records = list(zip(*columns, strict=True))
