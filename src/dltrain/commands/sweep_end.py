"""What a sweep says when it is over: all of its jobs, the best first, and how to go on."""

from __future__ import annotations

import shutil
import sys

from dltrain.commands.sweep_task import SweepTask
from dltrain.sweeps.ledger import FAILED, PENDING
from dltrain.sweeps.table import end_table

THROUGH_A_PIPE = 200  # columns, where nobody has a terminal


def say_end(task: SweepTask) -> int:
    """Prints it; the number of jobs that failed."""
    states = task.ledger.states()
    count = {name: sum(state.state == name for state in states) for name in (FAILED, PENDING)}
    if states:
        checkpoint = states[0].job.config["checkpoint"]
        is_terminal = sys.stdout is not None and sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else THROUGH_A_PIPE
        lines = end_table(states, checkpoint["monitor"], checkpoint["mode"], width)
        print("\n".join(["", *lines]) if lines else "")
    if count[PENDING]:
        why = f"stopped by {task.signals.name}: " if task.signals.received is not None else ""
        over = f"{len(states) - count[PENDING]} of {len(states)} jobs are over"
        print(f"\n{why}{over}. To go on:\n  {task.go_on_by}")
    failed = count[FAILED] + len(task.foreign)
    print(f"\n{task.folder}: {failed} failed" if failed else f"\nsweep: {task.folder}")
    return failed
