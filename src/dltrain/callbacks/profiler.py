"""Where the time of a few steps goes, as a trace and as a table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dltrain.engine.callback import Callback

if TYPE_CHECKING:
    from torch.profiler import profile

    from dltrain.engine.trainer import Trainer

NUM_ROWS = 40


class Profiler(Callback):
    """Records `active` optimizer steps into the run's `profile/`, once, and ends itself.

    `steps-12-17.json.gz` opens in https://ui.perfetto.dev; `steps-12-17.txt` holds the operations
    that took longest. What lies between two steps (loading, logging, evaluation) is recorded too.

    Args:
        wait: optimizer steps that are left alone first.
        warmup: steps that are traced and thrown away: starting to trace is slow.
        active: steps that are recorded. A run that ends earlier leaves what there is.
    """

    def __init__(self, *, wait: int, warmup: int, active: int) -> None:
        for name, value in (("wait", wait), ("warmup", warmup), ("active", active)):
            least = 1 if name == "active" else 0
            if value < least:
                raise ValueError(
                    f"callbacks.profiler.{name} is {value}; it must be >= {least}, in steps"
                )
        self.wait = wait
        self.warmup = warmup
        self.active = active
        self._profile: profile | None = None

    def on_fit_start(self, trainer: Trainer) -> None:
        from torch.profiler import ProfilerActivity, profile, schedule

        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else its C++ talks to our users on stderr
        self._on_cuda = torch.device(trainer.device).type == "cuda"
        if trainer.run_dir is None:
            raise ValueError(
                "callbacks.profiler writes into the run's directory; this run has none"
            )
        self._folder = trainer.run_dir / "profile"
        self._num_steps = 0
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * self._on_cuda
        steps = schedule(wait=self.wait, warmup=self.warmup, active=self.active, repeat=1)
        # There is one cycle only; without acc_events torch 2.11 warns of what the next would lose
        self._profile = profile(activities=activities, schedule=steps, acc_events=True)
        self._profile.start()

    def after_update(self, trainer: Trainer) -> None:
        if self._profile is None:
            return
        self._num_steps += 1
        if self._num_steps == self.wait + self.warmup + self.active:
            self._finish(trainer.step)
        else:
            self._profile.step()

    def on_fit_end(self, trainer: Trainer) -> None:
        self._finish(trainer.step)

    def _finish(self, step: int) -> None:
        if self._profile is None:
            return
        self._profile.stop()
        num_recorded = self._num_steps - self.wait - self.warmup
        if num_recorded > 0:
            self._write(self._profile, f"steps-{step - num_recorded + 1}-{step}")
        self._profile = None  # frees the events, which are many

    def _write(self, recorded: profile, name: str) -> None:
        self._folder.mkdir(exist_ok=True)
        recorded.export_chrome_trace(str(self._folder / f"{name}.json.gz"))
        order = "self_cuda_time_total" if self._on_cuda else "self_cpu_time_total"
        averages = recorded.key_averages()
        table = averages.table(sort_by=order, row_limit=NUM_ROWS, max_name_column_width=60)
        Path(self._folder / f"{name}.txt").write_text(table, encoding="utf-8")
