"""What a sweep says when it is over: all of its jobs, the best first, and how to go on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress

from dltrain.commands.sweep_task import SweepTask
from dltrain.errors import UserError
from dltrain.sweeps.ledger import DONE, FAILED, PENDING, JobState
from dltrain.sweeps.objectives import objectives_of, pareto_front, values_of
from dltrain.sweeps.table import ONE, Several, end_table

THROUGH_A_PIPE = 200  # columns, where nobody has a terminal


def say_end(task: SweepTask) -> int:
    """Prints it; the number of jobs that failed."""
    states = task.ledger.states()
    count = {name: sum(state.state == name for state in states) for name in (FAILED, PENDING)}
    if states:
        checkpoint = states[0].job.config["checkpoint"]
        is_terminal = sys.stdout is not None and sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else THROUGH_A_PIPE
        monitor, mode = checkpoint["monitor"], checkpoint["mode"]
        lines = end_table(states, monitor, mode, width, several_of(task, states, monitor, mode))
        print("\n".join(["", *lines]) if lines else "")
    total = max(len(states), task.num_jobs)  # trials of a search are made one after another
    over = len(states) - count[PENDING]
    if states and over < total:
        why = f"stopped by {task.signals.name}: " if task.signals.received is not None else ""
        print(f"\n{why}{over} of {total} jobs are over. To go on:\n  {task.go_on_by}")
    failed = count[FAILED] + len(task.foreign)
    print(f"\n{task.folder}: {failed} failed" if failed else f"\nsweep: {task.folder}")
    return failed


def several_of(task: SweepTask, states: Sequence[JobState], monitor: str, mode: str) -> Several:
    """Of a search with several objectives, what each job came to by them."""
    asked = task.settings["optuna"]
    names, directions = asked["objectives"], asked["directions"]
    if task.asked.get("sweeper") != "optuna" or len(names or ()) < 2:
        return ONE
    objectives = objectives_of(names, directions, monitor=monitor, mode=mode)
    values = {}
    for state in states:
        found = None
        if state.state == DONE:
            with suppress(UserError):  # of damaged files: of no use here
                found = values_of(task.folder / state.job.directory, objectives)
        if found is not None:
            values[state.job.number] = found
    return Several(list(names), values, pareto_front(values, objectives))
