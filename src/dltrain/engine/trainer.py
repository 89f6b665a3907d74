"""The loop: optimizer steps until the budget is spent, and what follows each in a fixed order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from torch import nn

from dltrain.engine.accumulate import Accumulate, whole_batch
from dltrain.engine.callback import Callback, overriding
from dltrain.engine.checkpoint import Checkpoint
from dltrain.engine.clock import Clock
from dltrain.engine.evaluate import EvaluationAbandonedError, evaluate
from dltrain.engine.plan import MAX_TIME, PASSING, Plan
from dltrain.engine.record import Recorder
from dltrain.engine.saver import Saver
from dltrain.engine.seeding import random_state, set_random_state
from dltrain.engine.sums import Task, TrainSums
from dltrain.engine.update import Update
from dltrain.errors import UserError


class Trainer:
    """Trains `model`; everything that it is given was chosen and built by its caller."""

    def __init__(
        self,
        *,
        model: nn.Module,
        task: Task,
        update: Update,
        train_loader: Any,
        val_loader: Any,
        plan: Plan,
        recorder: Recorder,
        saver: Saver,
        callbacks: dict[str, Callback],
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        accumulate: int = 1,
        precision: str = "fp32",
        run_dir: Path | None = None,
    ) -> None:
        self.model = self.eval_model = model
        self.task, self.update, self.plan = task, update, plan
        self.train_loader, self.val_loader = train_loader, val_loader
        self.recorder, self.saver, self.callbacks = recorder, saver, callbacks
        self.autocast = autocast
        self.micro_batches = Accumulate(accumulate) if accumulate > 1 else whole_batch
        self.sums = TrainSums(task)
        self.device = next(model.parameters()).device
        self.precision, self.run_dir = precision, run_dir  # for those who show or write
        self.is_closed = False
        self.step = self.next_pause = self.num_samples = 0
        self.origin = (0, 0)  # a step at which an epoch began; later ones have the same length
        self.should_stop = ""  # the reason, once there is one
        self.signal: int | None = None
        self.done = {"log": 0, "evaluate": 0}  # the last step at which each was done
        self.metrics: dict[str, float] = {}  # of the newest evaluation
        self.clock = Clock(plan.max_time_sec)
        observers = list(callbacks.values())
        self.after_update = overriding(observers, "after_update")
        self.on_evaluate = overriding(observers, "on_evaluate")
        recorder.observers = overriding(observers, "on_log")

    # ------------------------------------------------------------------ the loop

    def fit(self) -> None:
        """Trains from where it is until the budget is spent or somebody asks to stop."""
        self.start()
        batches = self.clock.timed(self.batches())
        while self.step < self.last_step and not self.should_stop:
            self.train_step(next(batches))
            self.step += 1
            self.after_step()
        self.finish()

    def train_step(self, batch: Any) -> None:
        """One optimizer step on one batch, in as many micro-batches as memory asks for."""
        for micro_batch, share in self.micro_batches(batch):
            with self.autocast():
                loss, record = self.task.train(self.model, micro_batch)
            self.update.backward(loss, share)
            self.sums.add(loss, len(micro_batch.targets), record)
        self.update(self.progress)

    def after_step(self) -> None:
        """What has to follow every step; all else waits for the next pause."""
        for callback in self.after_update:
            callback(self)
        if self.step >= self.next_pause or self.step >= self.last_step or self.clock.is_over():
            self.pause()

    def batches(self) -> Iterator[Any]:
        """Batches without end, from where the run is: skipping costs nothing, nothing is read."""
        start = (self.step - self.origin[0]) % self.steps_per_epoch
        for epoch in count(self.epoch):
            yield from self.train_loader.epoch(epoch, start)
            start = 0

    # ------------------------------------------------------------------ what is due now and then

    def pause(self) -> None:
        """Logging, evaluation, and the checkpoint last, so that it holds both."""
        self.update.guard.check()  # where the host waits for the device anyway
        self.saver.check()
        self.clock.stop()
        if self.clock.is_over():
            self.stop(MAX_TIME)
        if self.is_time("log", self.plan.log_every):
            self.log()
        improved = self.is_time("evaluate", self.plan.eval_every) and self.evaluate()
        if self.is_time("log", self.plan.log_every):  # the evaluation has ended the run
            self.log()
        if improved or self.is_last() or self.step % self.plan.save_every == 0:
            self.save()
        self.next_pause = self.step_of_next_pause()
        self.clock.start()

    def is_last(self) -> bool:
        return self.step >= self.last_step or bool(self.should_stop)

    def is_time(self, what: str, every: int) -> bool:
        """Every so many steps and at the last, but never twice, nor when a signal hurries us."""
        due = self.step % every == 0 or self.is_last()
        return due and self.done[what] != self.step and self.signal is None

    def step_of_next_pause(self) -> int:
        plan = self.plan
        everys = (plan.log_every, plan.eval_every, plan.save_every)
        return min(self.step - self.step % every + every for every in everys)

    def log(self) -> None:
        self.done["log"] = self.step
        samples = self.sums.num_samples + sum(self.sums.counts)
        self.num_samples += samples
        extra = self.update.numbers() | self.clock.lap(samples)
        self.recorder.row(self, "train", self.sums.read(), **extra)

    def evaluate(self) -> bool:
        """Evaluates on `val`; True where `checkpoint.monitor` is better than ever before.

        A signal abandons it: then it counts as not done, and is done again after resuming.
        """
        abandoned = lambda: self.signal is not None  # noqa: E731
        model, task, loader = self.eval_model, self.task, self.val_loader
        try:
            metrics = evaluate(model, task, loader, autocast=self.autocast, abandoned=abandoned)
        except EvaluationAbandonedError:
            return False
        self.done["evaluate"] = self.step
        train = {f"{name}/train": v for name, v in self.recorder.last.get("train", {}).items()}
        self.metrics = train | {f"{name}/val": value for name, value in metrics.items()}
        improved = self.saver.is_better(self.step, self.metrics)
        if metrics:
            self.recorder.row(self, "val", metrics)
        for callback in self.on_evaluate:
            callback(self, "val", metrics)
        return improved

    def save(self) -> None:
        """Weights that were not evaluated have no metrics, and are never taken for the best."""
        self.update.guard.check()
        metrics = self.metrics if self.done["evaluate"] == self.step else {}
        self.saver.save(self.step, self.model.state_dict(), self.state_dict(), metrics)

    # ------------------------------------------------------------------ start and end

    def prepare(self, checkpoint: Checkpoint | None = None) -> None:
        """Before `fit`: starts the callbacks, and goes to where `checkpoint` was taken."""
        for callback in overriding(list(self.callbacks.values()), "on_fit_start"):
            callback(self)
        if checkpoint is not None:
            self.restore(checkpoint)

    def start(self) -> None:
        self.model.train()
        self.next_pause = self.step_of_next_pause()
        self.clock.start()
        due = ("log", self.plan.log_every), ("evaluate", self.plan.eval_every)
        if self.step and any(self.is_time(what, every) for what, every in due):
            self.pause()  # what a signal kept from being done at this step

    def finish(self) -> None:
        """Training is over, on purpose or by a signal: nothing that was computed is lost."""
        if self.signal is None and self.done["evaluate"] != self.step:
            self.pause()  # stopped between two pauses: the last step is always evaluated
        elif self.saver.last_saved != self.step:
            self.save()
        self.saver.wait()
        self.clock.stop()

    def close(self) -> None:
        """Whatever happened: ends the callbacks, and leaves no write unfinished; once."""
        if self.is_closed:
            return
        self.is_closed = True
        for callback in overriding(list(self.callbacks.values()), "on_fit_end"):
            callback(self)
        self.saver.wait()

    def stop(self, reason: str, signal: int | None = None) -> None:
        """Ends training after the step under way; safe to call from a signal handler."""
        self.should_stop = self.should_stop or reason
        self.signal = self.signal or signal

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs beside the model's weights."""
        return {
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "origin": list(self.origin),
            "elapsed_sec": self.clock.elapsed(),
            "done": dict(self.done),
            "stopped": "" if self.should_stop in PASSING else self.should_stop,
            "metrics": self.metrics,
            "best": self.saver.best,
            "sums": self.sums.state_dict(),
            "update": self.update.state_dict(),
            "random": random_state(self.device),
            "recorder": self.recorder.state_dict(),
            "callbacks": {name: c.state_dict() for name, c in self.callbacks.items()},
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes everything from `checkpoint`; UserError where it is of another model."""
        try:
            self.model.load_state_dict(checkpoint.model)
            self.take(checkpoint.state)
        except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"{checkpoint.path.name} does not fit this config: {reason}\n"
                "a run goes on with its own model; for another one start a new run"
            ) from error
        self.load_callbacks(checkpoint.state)

    def take(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`, but for the callbacks."""
        self.update.load_state_dict(state["update"])
        self.step, self.done, self.metrics = state["step"], state["done"], state["metrics"]
        self.saver.best, self.should_stop = state["best"], self.should_stop or state["stopped"]
        self.clock.before = state["elapsed_sec"]
        self.sums.load_state_dict(state["sums"], self.device)
        self.recorder.last = state["recorder"]["last"]
        set_random_state(state["random"], self.device)
        self.restore_position(state)

    def restore_position(self, state: dict[str, Any]) -> None:
        """Where in which epoch. With another batch size, typed on purpose, a new epoch begins."""
        step, epoch = state["origin"]
        length = state["steps_per_epoch"]
        if length != self.steps_per_epoch:
            step, epoch = self.step, epoch + math.ceil((self.step - step) / length)
        self.origin = (step, epoch)
        if self.plan.in_epochs and self.plan.num_steps is not None:
            shift = step - epoch * self.steps_per_epoch
            self.plan = replace(self.plan, num_steps=self.plan.num_steps + shift)

    def load_callbacks(self, state: dict[str, Any]) -> None:
        for name, callback in self.callbacks.items():
            if name in state["callbacks"]:
                callback.load_state_dict(state["callbacks"][name])

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_loader)

    @property
    def epoch(self) -> int:  # completed ones
        return self.origin[1] + (self.step - self.origin[0]) // self.steps_per_epoch

    def epoch_at(self, step: float) -> float:
        return self.origin[1] + (step - self.origin[0]) / self.steps_per_epoch

    @property
    def last_step(self) -> float:
        return math.inf if self.plan.num_steps is None else self.plan.num_steps

    @property
    def num_steps(self) -> int | None:
        return self.plan.num_steps

    @property
    def best(self) -> dict[str, Any] | None:
        return self.saver.best

    @property
    def progress(self) -> float:
        """The part of the budget that is spent, in [0, 1]."""
        if self.plan.num_steps is None:
            return min(1.0, self.clock.elapsed() / self.plan.max_time_sec)
        return min(1.0, self.step / self.plan.num_steps)
