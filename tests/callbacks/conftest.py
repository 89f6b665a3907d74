"""A run as callbacks see it: the trainer's attributes, and a loop in the trainer's order."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


@dataclass
class Run:
    run_dir: Path
    num_steps: int | None = 100
    steps_per_epoch: int = 10
    epoch_at = staticmethod(lambda step: step / 10)
    model: nn.Module = field(default_factory=small_model)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    step: int = 0
    best: dict[str, Any] | None = None
    should_stop: str = ""
    metrics: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.eval_model = self.model
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.generator = torch.Generator().manual_seed(1)

    @property
    def progress(self) -> float:
        return self.step / self.num_steps if self.num_steps else 0.5

    def stop(self, reason: str) -> None:
        self.should_stop = reason

    def train(self, callback: Any, num_steps: int = 1) -> None:
        for _ in range(num_steps):
            loss = self.model(torch.randn(16, 4, generator=self.generator)).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.step += 1
            callback.after_update(self)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)
