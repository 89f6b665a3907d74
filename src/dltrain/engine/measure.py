"""What a step of training waits for: batches alone, steps alone, and both, measured in turn."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from dltrain.engine.clock import Clock
from dltrain.engine.trainer import Trainer

PARTS = ("data", "step", "both")
ROUNDS, LEAST_ROUNDS = 9, 3
NEVER = sys.maxsize
READ_AHEAD = 4  # batches that workers may have ready, at most


@dataclass
class Measured:
    """Seconds a step, a number for each round."""

    data: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    both: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)  # the part of `both` that waits for batches
    epoch_start_sec: float = (
        0.0  # what an epoch costs before its first batch, where no round saw it
    )

    def median(self, part: str) -> float:
        return statistics.median(getattr(self, part))


def measure(trainer: Trainer, seconds: float) -> Measured:
    """Measures for about so long, or longer where a few steps take longer; training is over then.

    Rounds take the parts in turn, so that a slow spell of the machine falls on all of them. What is
    measured is the trainer's own step, with its callbacks and its logging; evaluations and
    checkpoints never come. The learning rate is zero: it costs the same, and nothing can diverge.
    """
    parts = Parts(trainer)
    slot = seconds / ROUNDS / len(PARTS)
    sizes = {part: parts.suitable_size(part, slot) for part in PARTS}
    measured, begin = Measured(), time.perf_counter()
    for number in range(ROUNDS):
        for part in PARTS[number % 3 :] + PARTS[: number % 3]:
            parts.settle(part)
            getattr(measured, part).append(parts.run(part, sizes[part]))
            if part == "both":
                measured.waiting.append(parts.waited / sizes[part] / measured.both[-1])
        if number + 1 >= LEAST_ROUNDS and time.perf_counter() - begin > seconds:
            break
    if sizes["both"] < trainer.steps_per_epoch:
        measured.epoch_start_sec = max(0.0, parts.first_batch() - measured.median("data"))
    return measured


class Parts:
    """The three things that are timed; all batches come from one stream, as in training."""

    def __init__(self, trainer: Trainer) -> None:
        trainer.plan = replace(trainer.plan, num_steps=NEVER, eval_every=NEVER, save_every=NEVER)
        trainer.update.base_lrs = [0.0 for _ in trainer.update.base_lrs]
        trainer.clock = Clock()  # without the budget's time
        self.trainer, self.clock = trainer, Clock()
        self.waited = 0.0  # seconds for batches in the last `run`
        self.data_sec = 0.0  # for a batch, roughly
        trainer.prepare()
        trainer.start()
        loader = trainer.train_loader
        # The last batch of an epoch may be short: what is compiled or chosen for its size is now
        last = next(loader.epoch(0, len(loader) - 1))
        self.batch = next(loader.epoch(0))
        for batch in (self.batch, last, self.batch):
            self.take_step(batch)
        self.batches: Iterator[Any] = self.clock.timed(trainer.batches())
        self.work: dict[str, Callable[[], None]] = {
            "data": lambda: next(self.batches),
            "step": lambda: self.take_step(self.batch),
            "both": lambda: self.take_step(next(self.batches)),
        }

    def take_step(self, batch: Any) -> None:
        """What `Trainer.fit` does."""
        self.trainer.train_step(batch)
        self.trainer.step += 1
        self.trainer.after_step()

    def run(self, part: str, size: int) -> float:
        """Seconds a step, over `size` of them. On CUDA until the device is done."""
        work, waited = self.work[part], self.clock.waiting
        self.synchronise()
        begin = time.perf_counter()
        for _ in range(size):
            work()
        self.synchronise()
        self.waited = self.clock.waiting - waited
        return (time.perf_counter() - begin) / size

    def synchronise(self) -> None:
        if self.trainer.device.type == "cuda":
            torch.cuda.synchronize(self.trainer.device)

    def suitable_size(self, part: str, slot: float) -> int:
        """As many steps as fill about `slot` seconds, tried out, which warms up as well."""
        size, taken = 1, self.run(part, 1)
        while taken * size < slot / 4:
            size *= 4
            taken = self.run(part, size)
        if part == "data":
            self.data_sec = taken
        return max(1, round(slot / taken))

    def settle(self, part: str) -> None:
        """What workers have read ahead is not to count, and their reading on not to disturb."""
        loader = self.trainer.train_loader
        if loader.storage != "stream" or not loader.num_workers:
            return
        if part == "step":
            time.sleep(READ_AHEAD * self.data_sec)
            return
        for _ in range(READ_AHEAD):
            next(self.batches)

    def first_batch(self) -> float:
        """Seconds until the first batch of an epoch is there."""
        times = []
        for epoch in range(1, 1 + LEAST_ROUNDS):
            self.synchronise()
            begin = time.perf_counter()
            next(self.trainer.train_loader.epoch(epoch))
            self.synchronise()
            times.append(time.perf_counter() - begin)
        return statistics.median(times)
