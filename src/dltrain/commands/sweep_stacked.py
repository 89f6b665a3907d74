"""Jobs of a sweep that are trained together: `hydra/launcher=stacked`."""

from __future__ import annotations

from dltrain.commands.local_run import Unit, say_alone
from dltrain.commands.sweep_local import run_units, slots_for, warm_pool
from dltrain.commands.sweep_task import SweepTask
from dltrain.sweeps.ledger import JobRecord
from dltrain.sweeps.stackable import plan
from dltrain.sweeps.warm import modules_of

LEAST = 4  # jobs that share what a process costs: with fewer, another core is not worth a process
MODULES = ("dltrain.commands.stack_group", "torch.func")


def stacked(task: SweepTask, left: list[JobRecord]) -> None:
    """Groups of jobs, each in one process or a few; those that no group takes in the usual way."""
    pool = warm_pool(task)
    pool.load([*MODULES, *sorted({module for job in left for module in modules_of(job)})])
    slots, planned = slots_for(task, pool, left), plan(left)
    units = [
        Unit(part, together=True)
        for jobs in planned.groups
        for part in parts(jobs, -(-slots.count // len(planned.groups)))
    ]
    units += [Unit([job]) for job, _ in planned.alone]
    reasons = dict.fromkeys(reason for _, reason in planned.alone)
    notes = [say_alone([j for j, why in planned.alone if why == each], each) for each in reasons]
    slots = slots.of(len(units))
    run_units(task, units, slots, judge=task.judge, stop_at=task.stop_at, notes=notes)


def parts(jobs: list[JobRecord], count: int) -> list[list[JobRecord]]:
    """At most `count` of equal length, of LEAST jobs or more each."""
    count = max(1, min(count, len(jobs) // LEAST))
    return [jobs[index * len(jobs) // count : (index + 1) * len(jobs) // count]
            for index in range(count)]  # fmt: skip
