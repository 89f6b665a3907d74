"""A training run under way: the trainer, and the files of the directory that it fills."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from dltrain import build, build_loaders, runs
from dltrain.build_data import Data
from dltrain.build_loaders import placement
from dltrain.commands import console, provenance
from dltrain.commands.budget import refuse_a_spent_budget
from dltrain.commands.final_test import test
from dltrain.commands.shared import Shared
from dltrain.commands.signals import Signals
from dltrain.config.durations import parse_duration
from dltrain.durable import sync_folder
from dltrain.engine.plan import PRUNED
from dltrain.engine.record import HEAD as ROW_HEAD
from dltrain.errors import CheckpointError
from dltrain.findings import as_pixels, is_pictures

log = logging.getLogger("dltrain")


@dataclass
class Job:
    """What is to be trained and where; nothing has been written yet."""

    run_dir: Path
    config: dict[str, Any]
    choices: dict[str, Any]
    hydra_files: dict[str, str]  # the content of .hydra/, by name
    named_by_us: bool  # then a name that is taken gets a suffix
    allowed: list[str] = field(default_factory=list)
    resume: bool = False  # `dltrain resume`: any change of the config was typed on purpose
    # Of a sweep: sees every row, and may give a reason to prune; a step at which to stop for now
    observe: Callable[[dict[str, Any]], str | None] | None = None
    stop_at: int | str | None = None  # or a duration: `3 epochs`
    shared: Shared | None = None  # of jobs that are trained together


@dataclass(frozen=True)
class Result:
    exit_code: int
    best: float | None
    run_dir: Path
    stopped: str = ""  # why it was told to stop before its budget was spent


class Run:
    """A run under way: the files of its directory, and the trainer that fills them."""

    def __init__(self, job: Job, run_dir: Path, data: Data, threads: int | str) -> None:
        from dltrain.engine.device import choose_device
        from dltrain.engine.guard import refuse_nan
        from dltrain.engine.record import Recorder
        from dltrain.engine.saver import Saver
        from dltrain.engine.tensors import nonfinite

        self.job, self.dir, self.data, self.config = job, run_dir, data, job.config
        self.metrics_log = runs.MetricsLog(run_dir / runs.METRICS)
        self.summary = runs.Summary(run_dir / runs.SUMMARY, every_sec=float(bool(job.shared)))
        self.loggers = build.make_all(job.config, "loggers", job.allowed)
        self.recorder = Recorder(self.metrics_log, self.loggers)
        checkpoint = job.config["checkpoint"]
        self.saver = (job.shared.make_saver if job.shared else Saver)(
            run_dir / runs.CHECKPOINTS,
            keep=checkpoint["keep"],
            monitor=checkpoint["monitor"],
            mode=checkpoint["mode"],
            config_digest=provenance.config_digest(job.config),
            sync_logs=self.sync_logs,
        )
        device = choose_device(job.config["trainer"]["device"])
        self.place = placement(job.config, data, device, job.allowed)
        self.make_loader = partial(
            (job.shared or build_loaders).make_loader, job.config, data, device=device,
            place=self.place, allowed=job.allowed, progress=console.progress(),
        )  # fmt: skip
        self.loaders = loaders = {s: self.make_loader(split=s) for s in ("train", "val")}
        # A run that goes on has its weights: those that it began with may be gone
        going_on = bool(list(self.saver.folder.glob("step-*")))
        config = job.config | {"init_from": None} if going_on else job.config
        self.trainer = build.make_trainer(
            config,
            loaders,
            device,
            recorder=self.recorder,
            saver=self.saver,
            threads=threads,
            run_dir=run_dir,
            allowed=job.allowed,
        )
        self.saver.exempt = nonfinite(self.trainer.model.state_dict())
        if job.config["trainer"]["on_nonfinite"] == "stop":
            self.trainer.on_evaluate.append(refuse_nan)
        self.recorder.observers.append(self.after_row)
        self.tested, self.stopped = "the last weights", ""
        self.weights_sha256: str | None = None  # of those that were tested
        self.goes_on = False

    # ------------------------------------------------------------------ start

    def open(self) -> None:
        """Goes to where the run was, if it was; then writes what every run's directory holds."""
        from dltrain.engine.state import check_state

        summary = runs.read_if_whole(self.dir / runs.SUMMARY)
        saved = summary.get("checkpoint")
        if saved is None and (self.dir / runs.WEIGHTS).exists():  # what a run ends with
            saved = summary.get("step", 0)
        checkpoint = self.saver.load_newest(saved)
        if checkpoint is not None:
            check_state(checkpoint)
        self.trainer.prepare(checkpoint)
        self.goes_on = checkpoint is not None
        state = checkpoint.state["recorder"] if checkpoint else None
        if checkpoint is not None:
            log.info("%-10s from step %s of %s", "going on", f"{self.trainer.step:,}", self.dir)
        elif runs.holds_run(self.dir):
            log.info("%-10s %s: it has no checkpoint yet", "again", self.dir)
        is_completed = summary.get("status") == "completed"
        refuse_a_spent_budget(self.config["trainer"], self.trainer, is_completed=is_completed)
        runs.clear_leftovers(self.dir)
        if not self.goes_on:
            self.write_record()
        self.metrics_log.open(state["offset"] if state else 0)
        for name, logger in self.loggers.items():
            self.start_logger(name, logger, state)
        if self.goes_on:
            self.recorder.log_again()
        sync_folder(self.dir)
        if self.goes_on:  # not before all of its state has been taken
            self.write_record()
        self.take_part_in_sweep()

    def sync_logs(self) -> None:
        """Makes durable what a checkpoint is about to name."""
        self.metrics_log.sync()
        for logger in self.loggers.values():
            logger.sync()

    def start_logger(self, name: str, logger: Any, state: dict[str, Any] | None) -> None:
        try:
            logger.start(
                self.dir,
                config=self.config | {"choices": self.job.choices},
                resume_step=self.trainer.step if state else None,
                state=state["loggers"].get(name) if state else None,
            )
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            if state is None:
                raise
            raise CheckpointError(
                f"the checkpoint of step {self.trainer.step:,} holds a state of loggers.{name} "
                f"that it cannot take: {error}"
            ) from error

    def write_record(self) -> None:
        if self.goes_on:  # a larger budget beside `completed` would be taken for a finished run
            self.save_summary("running")
        provenance.write(self.dir, self.job, self.trainer, self.data)
        self.save_summary("running")

    def after_row(self, trainer: Any, row: dict[str, Any]) -> None:
        """For `train.log`; at evaluations the summary is rewritten and the loggers are flushed."""
        split, step = row["split"], row["step"]
        shown = {name: value for name, value in row.items() if name not in ROW_HEAD}
        log.debug(
            "step %s %s: %s", step, split, ", ".join(f"{n} {v:.5g}" for n, v in shown.items())
        )
        if split != "train":
            self.recorder.flush()
            self.save_summary("running")

    def take_part_in_sweep(self) -> None:
        if self.job.observe is not None:
            self.recorder.observers.append(self.tell_observer)
        if self.job.stop_at is not None:
            self.stop_step = self.step_of(self.job.stop_at)
            self.trainer.after_update.append(self.stop_in_time)
            self.stop_in_time(self.trainer)  # it may have been there when it was killed

    def step_of(self, place: int | str) -> int:
        if isinstance(place, int):
            return place
        trainer = self.trainer
        return parse_duration(place).steps(
            steps_per_epoch=trainer.steps_per_epoch, num_steps=trainer.num_steps
        )

    def tell_observer(self, trainer: Any, row: dict[str, Any]) -> None:
        """What a sweep is told of every row; a reason that it gives prunes the run."""
        assert self.job.observe is not None
        metrics = {f"{k}/{row['split']}": v for k, v in row.items() if k not in ROW_HEAD}
        head = {"step": trainer.step, "num_steps": trainer.num_steps, "epoch": row["epoch"]}
        reason = self.job.observe({**head, "split": row["split"], **metrics})
        if reason and row["split"] != "test" and not self.stopped:
            self.stopped = reason
            trainer.stop(PRUNED)

    def stop_in_time(self, trainer: Any) -> None:
        """At the step at which a sweep compares its runs; they may go on later."""
        if trainer.step >= self.stop_step:
            self.stopped = f"stopped at step {self.stop_step:,} to be compared"
            trainer.stop(PRUNED)

    def show_first_batch(self) -> None:
        """The batch as the network sees it; only once, and only where it is made of pictures."""
        if self.goes_on or not self.loggers:
            return
        batch = next(self.trainer.train_loader.epoch(0))
        if is_pictures(batch.inputs):
            pixels = as_pixels(batch.inputs[:64], self.data.dataset)
            for logger in self.loggers.values():
                logger.log_images(0, "images/train", pixels, time.time())

    # ------------------------------------------------------------------ training and the end

    def conclude(self, signals: Signals) -> Result:
        """After training: tests the final weights once, and leaves the run's results behind."""
        is_pruned = self.trainer.should_stop == PRUNED and not signals.received
        if is_pruned and self.trainer.step < self.trainer.last_step:
            return self.pruned()
        if not signals.received:
            test(self, signals)
        self.trainer.close()
        if signals.received:
            return self.interrupted(signals)
        self.save_summary("completed")
        self.close("completed")
        if self.trainer.should_stop:
            log.info("ended by %s", self.trainer.should_stop)
        rows = {name: self.recorder.last.get(name, {}) for name in ("train", "val", "test")}
        console.say_results(self.dir, self.summary.data, rows, self.tested)
        return self.result(0)

    def pruned(self) -> Result:
        """It has its checkpoint, and can go on: the test is that of a whole run."""
        self.trainer.close()
        self.save_summary("stopped")
        self.close("stopped")
        log.info("stopped    at step %s: %s", f"{self.trainer.step:,}", self.stopped)
        return replace(self.result(0), stopped=self.stopped)

    def interrupted(self, signals: Signals) -> Result:
        self.save_summary("interrupted")
        self.close("interrupted")
        allowed = [word for name in self.job.allowed for word in ("--allow-target", name)]
        command = shlex.join(["dltrain", "resume", str(self.dir), *allowed])
        log.info("")
        log.info(
            "stopped by %s at step %s; saved. To go on:", signals.name, f"{self.trainer.step:,}"
        )
        log.info("  %s", command)
        return self.result(signals.exit_code)

    def result(self, exit_code: int) -> Result:
        best = self.trainer.best
        return Result(exit_code, best["value"] if best else None, self.dir)

    def close(self, status: str) -> None:
        self.close_loaders()
        try:
            self.recorder.close(status)
        finally:
            self.metrics_log.close()

    def close_loaders(self) -> None:
        for loader in self.loaders.values():
            loader.close()

    def save_summary(self, status: str) -> None:
        trainer = self.trainer
        seconds = trainer.clock.total_training
        self.summary.save(
            status=status,
            step=trainer.step,
            epoch=trainer.epoch,
            best=trainer.best and {"monitor": self.saver.monitor, **trainer.best},
            last={
                f"{name}/{split}": value
                for split in ("train", "val")
                for name, value in self.recorder.last.get(split, {}).items()
            },
            test=self.recorder.last.get("test"),
            checkpoint=self.saver.durable,
            wall_time_sec=round(trainer.clock.elapsed(), 3),
            samples_per_sec=round(trainer.num_samples / seconds, 1) if seconds else None,
            data_share=round(trainer.clock.total_waiting / seconds, 4) if seconds else None,
            num_parameters=sum(p.numel() for p in trainer.model.parameters()),
            weights_sha256=self.weights_sha256,
        )
