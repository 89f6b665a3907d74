"""One job of several that are trained together: what a run alone goes through, cut at its steps."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from dltrain import runs
from dltrain.build_data import Data
from dltrain.claim import Claim
from dltrain.commands import console
from dltrain.commands.failures import enough_memory, recorded_failures, storage_errors
from dltrain.commands.job import check_weights_exist, decide_to_go_on
from dltrain.commands.run import Job, Run
from dltrain.commands.shared import Shared
from dltrain.commands.signals import Signals
from dltrain.commands.sweep_job import Observe, Outcome
from dltrain.errors import DltrainError
from dltrain.sweeps.ledger import JobRecord

log = logging.getLogger("dltrain")


class StackedRun:
    """A run of a sweep, its directory held from `open` to `end`."""

    def __init__(
        self,
        folder: Path,
        record: JobRecord,
        allowed: list[str],
        *,
        observe: Observe | None = None,
        stop_at: int | str | None = None,
    ) -> None:
        self.record = record
        self.job = Job(
            run_dir=folder / record.directory,
            config=record.config,
            choices=dict(record.choices),
            hydra_files=record.hydra_files,
            named_by_us=False,
            allowed=allowed,
            resume=runs.holds_run(folder / record.directory),
            observe=observe,
            stop_at=stop_at,
        )
        self.held = ExitStack()
        self.log_file: logging.Handler | None = None
        self.run: Run | None = None

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """What is logged within goes to this run's `train.log`."""
        if self.log_file is not None:
            log.addHandler(self.log_file)
        try:
            yield
        finally:
            if self.log_file is not None:
                log.removeHandler(self.log_file)

    # ------------------------------------------------------------------ the beginning

    def open(self, data: Data, shared: Shared, threads: int | str) -> Outcome | None:
        """Everything before the first step; the outcome where that is the end of it."""
        try:
            with storage_errors():
                self.begin(data, shared, threads)
        except Exception as error:
            self.leave()
            return outcome_of(error)
        return None

    def begin(self, data: Data, shared: Shared, threads: int | str) -> None:
        claim = self.held.enter_context(Claim(self.job.run_dir))
        going_on = not claim.is_new and decide_to_go_on(self.job, claim.path)
        if going_on and threads == "auto":  # with other threads, sums have other roundings
            threads = runs.read_if_whole(claim.path / runs.RECORD).get("threads", threads)
        if not going_on:
            check_weights_exist(self.job.config)
        run_dir = claim.take()
        self.job.shared = shared
        with enough_memory():
            run = self.run = Run(self.job, run_dir, data, threads)
        try:
            run.open()
        except BaseException:
            run.trainer.close()
            with suppress(Exception):  # some of it has not been opened yet
                run.close("failed")
            raise
        self.log_file = console.LogFile(run_dir / runs.LOG)
        self.log_file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        with self.speaking():
            console.say_what_is_trained(
                self.job.config, self.job.choices, run.trainer, data, run.place.why
            )
            with recorded_failures(run):
                run.show_first_batch()

    # ------------------------------------------------------------------ the end

    def end(self, error: Exception | None, signals: Signals) -> Outcome:
        """What follows the last step, or a failure: the test, the summary. The directory stays
        held until `leave`."""
        assert self.run is not None
        try:
            with storage_errors(), recorded_failures(self.run):
                if error is not None:
                    raise error
                result = self.run.conclude(signals)
        except Exception as caught:
            return outcome_of(caught)
        return Outcome(result.exit_code, result.best, result.stopped, bool(result.stopped))

    def leave(self) -> None:
        if self.log_file is not None:
            with suppress(OSError):
                self.log_file.close()
        self.held.close()
        self.job, self.run = replace(self.job, shared=None), None


def outcome_of(error: Exception) -> Outcome:
    """As `run_recorded` has it for a run alone."""
    if isinstance(error, DltrainError):
        return Outcome(error.exit_code, reason=str(error))
    traceback.print_exception(error)
    return Outcome(1, reason=traceback.format_exception_only(error)[-1].strip())
