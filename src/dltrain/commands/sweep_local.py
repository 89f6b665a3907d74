"""The local launcher: jobs of a sweep in processes of their own, so many at once, kept warm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dltrain.commands.job import GPU_DEVICES
from dltrain.commands.local_run import LocalRun, Unit
from dltrain.commands.sweep_job import Judge, Outcome
from dltrain.commands.sweep_task import SweepTask
from dltrain.sweeps import ledger as states
from dltrain.sweeps.ledger import JobRecord
from dltrain.sweeps.live import choose_screen
from dltrain.sweeps.pool import Pool
from dltrain.sweeps.slots import Slots, choose_slots, device_of, gpu_names, too_many_threads
from dltrain.sweeps.warm import modules_of, take_starter

PROBE = -1  # the key of a process that is no job


def run_jobs(
    task: SweepTask,
    jobs: Sequence[JobRecord],
    *,
    judge: Judge | None = None,
    stop_at: str | None = None,
) -> dict[int, Outcome]:
    """Runs the jobs, as many at once as `sweep.jobs` says; what became of those that ended.

    judge: called here, in the order in which a job evaluates; a job waits for what it says.
    stop_at: a duration, after which each job stops for now.
    """
    pool = warm_pool(task)
    pool.load(sorted({module for job in jobs for module in modules_of(job)}))
    slots = slots_for(task, pool, jobs)
    return run_units(task, [Unit([job]) for job in jobs], slots, judge=judge, stop_at=stop_at)


def slots_for(task: SweepTask, pool: Pool, jobs: Sequence[JobRecord]) -> Slots:
    everything = list(task.ledger.jobs.values()) or jobs
    gpus = find_gpus(pool, jobs)
    return choose_slots(task.settings["jobs"], everything, gpus, num_jobs(task))


def at_once(task: SweepTask, like: JobRecord) -> int:
    """How many jobs are run at once, where they are like this one."""
    return slots_for(task, warm_pool(task), [like]).count


def num_jobs(task: SweepTask) -> int:
    return max(task.num_jobs, len(task.ledger.jobs))  # of a search, more are to come


def run_units(
    task: SweepTask,
    units: Sequence[Unit],
    slots: Slots,
    *,
    judge: Judge | None = None,
    stop_at: str | None = None,
    notes: Sequence[str] = (),
) -> dict[int, Outcome]:
    """As `run_jobs`; notes: lines to show before."""
    pool = warm_pool(task)
    num_done = sum(each.state in (states.DONE, states.PRUNED) for each in task.ledger.states())
    warning = too_many_threads(slots, [job for unit in units for job in unit.jobs])
    with choose_screen(num_jobs(task), num_done, slots.count) as screen:
        for note in (*notes, *filter(None, [warning])):
            screen.say(note)
        return LocalRun(task, pool, slots, screen, judge=judge, stop_at=stop_at).run(units)


def execute(task: SweepTask, left: list[JobRecord]) -> None:
    """What the launcher has run."""
    run_jobs(task, left, judge=task.judge, stop_at=task.stop_at)


def warm_pool(task: SweepTask) -> Pool:
    """One for all that a sweep runs, however many times it asks: it is closed with the task."""
    if task.pool is None:
        task.pool = task.closing.enter_context(Pool(take_starter()))
    pool: Pool = task.pool
    return pool


def find_gpus(pool: Pool, jobs: Sequence[JobRecord]) -> list[str]:
    """Counted in a process that ends with it: whoever asks CUDA has started it."""
    there_are = any(next(Path("/dev").glob(pattern), None) for pattern in GPU_DEVICES)
    if not there_are or all(device_of(job) == "cpu" for job in jobs):
        return []
    pool.start(PROBE, count_gpus=True)
    count = 0
    while True:
        for event in pool.wait(None):
            count = (event.message or {}).get("gpus", count)
            if event.ended:
                return gpu_names(count)
