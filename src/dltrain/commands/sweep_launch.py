"""What every launcher shares: its jobs are recorded first, and those that are left are run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from dltrain.commands.sweep_job import judged_by, run_recorded
from dltrain.commands.sweep_task import SweepTask
from dltrain.errors import UserError
from dltrain.sweeps import ledger as states
from dltrain.sweeps.ledger import JobRecord

Execute = Callable[[SweepTask, list[JobRecord]], None]


def launch(
    launcher: Any,
    job_overrides: Sequence[Sequence[str]],
    initial_job_idx: int,
    execute: Execute,
    *,
    running: bool = False,
) -> list[JobReturn]:
    """Records the jobs, has those that are left run, and gives each its best value (or None).

    launcher: has the `task_function` of its `setup`. execute(task, left): runs jobs, calls
    `task.begin` and `task.end` around each, and returns when all have ended or a signal came.
    running: it is given jobs that another process runs, too.
    """
    task = launcher.task_function
    if not isinstance(task, SweepTask):
        raise UserError("this launcher belongs to `dltrain train -m`; no other program can use it")
    numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
    task.compose(numbers, job_overrides)
    if not task.dry_run:
        task.hold()
        task.write_down()
        wanted = set(numbers) if task.only is None else task.only & set(numbers)
        left = [job for job in task.ledger.left(running=running) if job.number in wanted]
        left = [task.trusted(job) for job in left]
        if left and task.signals.received is None:
            execute(task, left)
    return [job_return(task, number) for number in numbers]


def job_return(task: SweepTask, number: int) -> JobReturn:
    state = task.ledger.state(number) if not task.dry_run else None
    answer = JobReturn()
    answer.overrides = task.ledger.jobs[number].overrides
    answer.status = JobStatus.COMPLETED  # a failure is one of a job, and not of the sweep
    answer.return_value = state.result if state and state.state == states.DONE else None
    return answer


def one_after_another(task: SweepTask, left: list[JobRecord]) -> None:
    """In this process."""
    sys.argv = task.argv
    pruned: set[int] = set()
    for job in left:
        decision = "again"
        while decision == "again":
            task.begin(job)
            outcome = run_recorded(
                task.folder,
                job,
                task.allowed,
                task.signals,
                observe=judged_by(task.judge, job, pruned),
                stop_at=task.stop_at,
            )
            task.end(job, outcome, pruned=job.number in pruned)
            decision = task.may_go_on(job, outcome)
        if decision == "stop":
            break
