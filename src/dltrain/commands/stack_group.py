"""Jobs of a sweep that this process trains together, of one network and one shape of batches."""

from __future__ import annotations

import json
import logging
import resource
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.build_data import Data, fingerprint, read_data
from dltrain.build_loaders import make_loader, memory_for_training, placement
from dltrain.commands import provenance
from dltrain.commands.failures import storage_errors
from dltrain.commands.job import check_device, refuse_several_processes
from dltrain.commands.shared import Shared
from dltrain.commands.signals import SIGNALS
from dltrain.commands.stack_member import StackedRun, outcome_of
from dltrain.commands.sweep_job import Outcome
from dltrain.durable import synced_together
from dltrain.engine.plan import SIGNAL
from dltrain.errors import StorageError
from dltrain.sweeps.ledger import JobRecord

if TYPE_CHECKING:
    from dltrain.commands.sweep_child import Teller
    from dltrain.engine.together import Member

log = logging.getLogger("dltrain")
MAX_OPEN_FILES = 4096  # each of 64 members has a few, and macOS grants 256 unless asked


class Group:
    """As many at a time as memory holds; what is to be known of each is told to the parent."""

    def __init__(
        self,
        folder: Path,
        jobs: list[JobRecord],
        allowed: list[str],
        teller: Teller,
        *,
        stop_at: str | None,
    ) -> None:
        self.folder, self.waiting, self.allowed = folder, list(jobs), allowed
        self.teller, self.stop_at = teller, stop_at
        self.config = jobs[0].config
        self.open: dict[Any, StackedRun] = {}  # by trainer
        self.loaders: dict[str, Any] = {}
        self.threads: int | str = self.config["trainer"]["threads"]

    def run(self, neighbours: int) -> int:
        """Trains all, and gives the exit code. neighbours: processes that share the memory."""
        from dltrain.engine.backlog import Backlog
        from dltrain.engine.device import choose_device

        log.setLevel(logging.DEBUG)
        log.propagate = False
        allow_open_files(MAX_OPEN_FILES)
        self.neighbours = neighbours
        try:
            refuse_several_processes()
            check_device(self.config["trainer"])
            with storage_errors():
                data = read_data(self.config, self.allowed, None)
            self.device = choose_device(self.config["trainer"]["device"])
            place = placement(self.config, data, self.device, self.allowed)
        except Exception as error:  # of every job the same
            for job in self.waiting:
                self.teller.tell(job, begins=True)
                self.tell_end(job, outcome_of(error))
            return 1
        if place.storage == "stream":
            self.teller.channel.send(alone="its samples are streamed")
            return 0
        backlog = Backlog()
        self.shared = Shared(
            make_loader=self.make_loader,
            make_saver=backlog.make_saver,
            surroundings=provenance.surroundings(self.allowed),
            fingerprint=fingerprint(data),
        )
        SIGNALS.call(self.stop_all)
        try:
            while self.waiting and SIGNALS.received is None:
                self.train(data)
        finally:
            backlog.close()
        return SIGNALS.exit_code

    def tell_end(self, job: JobRecord, outcome: Outcome) -> None:
        self.teller.tell(job, outcome=outcome._asdict())

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
        except (StorageError, OSError) as error:
            # The disk is full: of what was written nothing is sure
            for member in members:
                member.error = error
        count = len(members)
        Together(
            members,
            self.end,
            lambda choice: self.teller.say(f"stacked    {count} jobs: {choice.describe()}"),
        ).fit()
        torch.set_num_threads(threads)

    def begin(self, members: list[Member], data: Data) -> None:
        """Adds those that can be opened, in directories of their own."""
        from dltrain.engine.together import Member

        room = 1
        while self.waiting and len(members) < room and SIGNALS.received is None:
            run = self.open_next(self.waiting.pop(0), data)
            if run is None:
                continue
            assert run.run is not None
            trainer = run.run.trainer
            members.append(Member(trainer, run.speaking))
            self.open[trainer] = run
            if SIGNALS.received is not None:  # while it was opened: `stop_all` did not see it
                trainer.stop(SIGNAL, SIGNALS.received)
            elif len(members) == 1:
                room = self.how_many(trainer)

    def open_next(self, record: JobRecord, data: Data) -> StackedRun | None:
        import torch

        observe = self.teller.observer(record)
        run = StackedRun(self.folder, record, self.allowed, observe=observe, stop_at=self.stop_at)
        self.teller.tell(record, begins=True)
        outcome = run.open(data, self.shared, self.threads)
        if outcome is not None:
            self.tell_end(record, outcome)
            return None
        if self.threads == "auto":  # counted once: the networks and batches are the same
            self.threads = torch.get_num_threads()
        return run

    def how_many(self, trainer: Any) -> int:
        from dltrain.engine.stack_choice import how_many

        batch = next(trainer.train_loader.epoch(0))
        try:
            return how_many(trainer, batch, memory_for_training(self.device) / self.neighbours)
        except Exception:  # of a pass by this model: its first step will tell
            return 1

    def end(self, members: list[Member]) -> None:
        """Their files are synced together; their directories are held until then."""
        ended = []
        try:
            with storage_errors(), synced_together():
                for member in members:
                    run = self.open.pop(member.trainer)
                    with member.acting():
                        ended.append((run, run.end(member.error, SIGNALS)))
        except (StorageError, OSError) as error:
            ended = [(run, outcome_of(error)) for run, _ in ended]
        for run, outcome in ended:
            run.leave()
            self.tell_end(run.record, outcome)

    def stop_all(self, number: int) -> None:
        for trainer in list(self.open):
            trainer.stop(SIGNAL, number)


def allow_open_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
