"""Trials of a search that cannot be jobs: what was drawn does not go together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dltrain.commands.sweep_job import Outcome
from dltrain.commands.sweep_task import SweepTask
from dltrain.errors import UserError
from dltrain.sweeps import ledger as states
from dltrain.sweeps.ledger import JobRecord
from dltrain.sweeps.names import job_directory


def record_trials(
    task: SweepTask,
    first: int,
    overrides: Sequence[Sequence[str]],
    *,
    config: Mapping[str, Any],
    check: Callable[[], None],
) -> set[int]:
    """Composes and records trials from number `first` on; the numbers of those that cannot be.

    These are recorded as jobs that failed, with what every reader of a ledger asks of a `config`
    and nothing that could be trained: a search goes on without them, and draws nothing twice.
    check: raises UserError where it is not the trial that is wrong, but what all have in common.
    """
    try:
        task.compose(range(first, first + len(overrides)), overrides)
        return set()
    except UserError:  # of one of them, and none is recorded
        return {
            number
            for number, texts in enumerate(overrides, first)
            if not recorded(task, number, list(texts), config, check)
        }


def recorded(
    task: SweepTask,
    number: int,
    overrides: list[str],
    config: Mapping[str, Any],
    check: Callable[[], None],
) -> bool:
    try:
        task.compose([number], [overrides])
        return True
    except UserError as error:
        check()
        reason = str(error)
    swept = task.swept(number, overrides)
    directory = job_directory(number, swept, task.num_jobs)
    job = JobRecord(number, overrides, swept, directory, dict(config), choices={}, hydra_files={})
    failed = {"number": number, "state": states.FAILED, "reason": reason[:4000], "exit_code": 2}
    if task.dry_run:
        task.ledger.jobs[number], task.ledger.events[number] = job, [failed]
    else:
        task.record([job], [failed])
        task.tell_failure(job, Outcome(UserError.exit_code, reason=reason))
    return False


def is_refused(job: JobRecord) -> bool:
    return "model" not in job.config
