"""`dltrain train -m --dry-run`: the jobs of a sweep, those that were recorded among them."""

from __future__ import annotations

from dltrain.commands.hydra_app import through_hydra
from dltrain.commands.sweep_refused import is_refused
from dltrain.commands.sweep_task import SweepTask
from dltrain.sweeps.ledger import DONE, FAILED, PENDING, PRUNED


def list_jobs(task: SweepTask, argv: list[str]) -> int:
    """For `--dry-run`: what the sweeper would launch, by a launcher that runs nothing then."""
    from dltrain.commands.dry_run import Planned, say_plan

    launchers = ("hydra/launcher=", "hydra.launcher.")
    own = [arg for arg in argv if not arg.lstrip("+~").startswith(launchers)]
    code = through_hydra([*own, "hydra/launcher=basic"], task)
    states = task.ledger.states()
    # A failed job is tried again, but not a failed trial of a search
    over = (DONE, PRUNED, FAILED) if task.asked.get("sweeper") == "optuna" else (DONE, PRUNED)
    planned = []
    for each in states:
        is_new = each.job.number not in task.read
        state = "" if is_new or each.state == PENDING else each.state
        plan = Planned(
            each.job.number,
            each.job.swept,
            each.job.directory,
            each.job.config if is_refused(each.job) else task.trusted(each.job).config,
            state,
            is_over=state in over,
            problem=each.reason if is_new else "",  # it cannot be composed
        )
        planned.append(plan)
    return code or say_plan(planned, task.folder, task.allowed)
