"""Jobs of a sweep that are trained together in this process: `hydra/launcher=stacked`."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dltrain.build_data import Data, fingerprint, read_data
from dltrain.build_loaders import make_loader, memory_for_training, placement
from dltrain.commands import console, provenance
from dltrain.commands.failures import storage_errors
from dltrain.commands.job import check_device, refuse_several_processes
from dltrain.commands.shared import Shared
from dltrain.commands.stack_member import StackedRun, outcome_of
from dltrain.commands.sweep_job import judged_by
from dltrain.commands.sweep_launch import SweepTask, one_after_another
from dltrain.durable import synced_together
from dltrain.engine.plan import PRUNED, SIGNAL
from dltrain.errors import StorageError
from dltrain.sweeps.ledger import JobRecord
from dltrain.sweeps.stackable import plan

if TYPE_CHECKING:
    from dltrain.engine.together import Member

log = logging.getLogger("dltrain")
LINE_EVERY_SEC = 2.0


def stacked(task: SweepTask, left: list[JobRecord]) -> None:
    """Groups of jobs together; those that no group takes in the usual way."""
    sys.argv = task.argv
    refuse_several_processes()
    log.setLevel(logging.DEBUG)
    log.propagate = False
    planned = plan(left)
    for jobs in planned.groups:
        group = Group(task, jobs)
        planned.alone += group.run()
        if group.is_over:
            return
    say_alone(planned.alone)
    if planned.alone:
        task.signals.on_stop = None
        one_after_another(task, [job for job, _ in planned.alone])


def say_alone(alone: list[tuple[JobRecord, str]]) -> None:
    for reason in dict.fromkeys(reason for _, reason in alone):
        names = [job.directory for job, why in alone if why == reason]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        print(f"alone      {shown}: {reason}", flush=True)


class Group:
    """Jobs with one network and one shape of batches, as many at a time as memory holds."""

    def __init__(self, task: SweepTask, jobs: list[JobRecord]) -> None:
        self.task, self.waiting = task, list(jobs)
        self.config = jobs[0].config
        self.open: dict[Any, StackedRun] = {}  # by trainer
        self.loaders: dict[str, Any] = {}
        self.threads: int | str = self.config["trainer"]["threads"]
        self.pruned: set[int] = set()  # by the sweeper, on their way
        self.screen = Screen()
        self.is_stopped = False  # a job has failed, and `sweep.on_error` is `stop`

    def run(self) -> list[tuple[JobRecord, str]]:
        """Trains all; gives back those that cannot be trained together after all, and why."""
        try:
            with storage_errors():
                data = self.read()
            why = self.why_not(data)
        except Exception as error:  # of every job the same
            outcome = outcome_of(error)
            for job in self.waiting:
                self.task.begin(job)
                self.task.end(job, outcome)
                self.task.may_go_on(job, outcome)
            return []
        if why is not None:
            return [(job, why) for job in self.waiting]
        from dltrain.engine.backlog import Backlog

        backlog = Backlog()
        self.shared = Shared(
            make_loader=self.make_loader,
            make_saver=backlog.make_saver,
            surroundings=provenance.surroundings(self.task.allowed),
            fingerprint=fingerprint(data),
        )
        self.task.signals.call(self.stop_all)
        try:
            while self.waiting and not self.is_over:
                self.train(data)
        finally:
            backlog.close()
        return []

    @property
    def is_over(self) -> bool:
        return self.task.signals.received is not None or self.is_stopped

    def read(self) -> Data:
        """The data of all, once; before torch is imported, as for a run alone."""
        check_device(self.config["trainer"])
        data = read_data(self.config, self.task.allowed, console.progress())
        with self.task.signals.waiting():
            import torch  # noqa: F401
        return data

    def why_not(self, data: Data) -> str | None:
        from dltrain.engine.device import choose_device

        self.device = choose_device(self.config["trainer"]["device"])
        place = placement(self.config, data, self.device, self.task.allowed)
        return "its samples are streamed" if place.storage == "stream" else None

    def make_loader(self, config: dict[str, Any], data: Data, *, split: str, **options: Any) -> Any:
        """Of the same samples one loader, whatever the seed: they lie in memory once."""
        size = config["loader"]["batch_size" if split == "train" else "eval_batch_size"]
        key = json.dumps([split, size, config["augmentation"], config["loader"]["drop_last"]])
        if key not in self.loaders:
            self.loaders[key] = make_loader(config, data, split=split, **options)
        loader = self.loaders[key]
        if split != "train":
            return loader
        own = f"{key} {config['seed']}"
        if own not in self.loaders:
            self.loaders[own] = loader.reseeded(config["seed"])
        return self.loaders[own]

    # ------------------------------------------------------------------ a stack

    def train(self, data: Data) -> None:
        """As many of the waiting as fit, to their ends."""
        import torch

        from dltrain.engine.together import Together

        threads = torch.get_num_threads()
        members: list[Member] = []
        try:
            with storage_errors(), synced_together():
                self.begin(members, data)
        except (
            StorageError,
            OSError,
        ) as error:  # the disk is full: of what was written nothing is sure
            for member in members:
                member.error = error
        self.screen.begin(len(members))
        Together(members, self.end, self.screen.say_choice).fit()
        torch.set_num_threads(threads)

    def begin(self, members: list[Member], data: Data) -> None:
        """Adds those that can be opened, in directories of their own."""
        from dltrain.engine.together import Member

        room = 1
        while self.waiting and len(members) < room and not self.is_over:
            run = self.open_next(self.waiting.pop(0), data)
            if run is None:
                continue
            assert run.run is not None
            trainer = run.run.trainer
            members.append(Member(trainer, run.speaking))
            self.open[trainer] = run
            run.run.recorder.observers.append(self.seen)
            if len(members) == 1:
                room = self.how_many(trainer)

    def open_next(self, record: JobRecord, data: Data) -> StackedRun | None:
        import torch

        task = self.task
        observe = judged_by(task.judge, record, self.pruned)
        run = StackedRun(task.folder, record, task.allowed, observe=observe, stop_at=task.stop_at)
        task.begin(record)
        outcome = run.open(data, self.shared, self.threads)
        if outcome is not None:
            self.decide(record, outcome)
            return None
        if self.threads == "auto":  # counted once: the networks and batches are the same
            self.threads = torch.get_num_threads()
        return run

    def how_many(self, trainer: Any) -> int:
        from dltrain.engine.stack_choice import how_many

        batch = next(trainer.train_loader.epoch(0))
        return how_many(trainer, batch, memory_for_training(self.device))

    def end(self, members: list[Member]) -> None:
        """Their files are synced together; their directories are held until then."""
        ended = []
        try:
            with storage_errors(), synced_together():
                for member in members:
                    run = self.open.pop(member.trainer)
                    with member.acting():
                        ended.append((run, run.end(member.error, self.task.signals)))
        except (StorageError, OSError) as error:
            ended = [(run, outcome_of(error)) for run, _ in ended]
        for run, _ in ended:
            run.leave()
        with synced_together():
            for run, outcome in ended:
                self.decide(run.record, outcome)

    def decide(self, record: JobRecord, outcome: Any) -> None:
        """What `sweep.on_error` makes of how a job has ended."""
        self.task.end(record, outcome, pruned=record.number in self.pruned)
        decision = self.task.may_go_on(record, outcome)
        if decision == "again":
            self.waiting.append(record)
        elif decision == "stop" and self.task.signals.received is None:
            self.is_stopped = True
            for trainer, run in self.open.items():
                assert run.run is not None
                run.run.stopped = f"{record.directory} has failed, and sweep.on_error=stop"
                trainer.stop(PRUNED)

    def stop_all(self, number: int) -> None:
        for trainer in list(self.open):
            trainer.stop(SIGNAL, number)

    def seen(self, trainer: Any, row: dict[str, Any]) -> None:
        run = self.open.get(trainer)
        if run is not None and row["split"] == "val":
            self.screen.show(run.record.directory, trainer, len(self.open))


class Screen:
    """What the screen shows of many runs: a line now and then, with the best of them."""

    def __init__(self, write: Callable[[str], None] = lambda text: print(text, flush=True)) -> None:
        self.write = write
        self.best: dict[str, tuple[float, str]] = {}  # by monitor: value with its sign, text
        self.said_at = 0.0

    def begin(self, count: int) -> None:
        self.count = count

    def say_choice(self, choice: Any) -> None:
        self.write(f"stacked    {self.count} jobs: {choice.describe()}")

    def show(self, name: str, trainer: Any, num_open: int) -> None:
        saver, best = trainer.saver, trainer.best
        if best is None:
            return
        value = best["value"] if saver.mode == "max" else -best["value"]
        if saver.monitor not in self.best or value > self.best[saver.monitor][0]:
            text = f"best {saver.monitor} {best['value']:.4g} ({name})"
            self.best[saver.monitor] = (value, text)
        if time.monotonic() - self.said_at < LINE_EVERY_SEC:
            return
        self.said_at = time.monotonic()
        of = f" of {trainer.num_steps:,}" if trainer.num_steps else ""
        self.write(f"step {trainer.step:,}{of}, {num_open} jobs, {self.best[saver.monitor][1]}")
