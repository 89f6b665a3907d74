"""Whether a run that goes on has anything left to do."""

from __future__ import annotations

from typing import Any

from dltrain.errors import UserError

BUDGETS = ("max_epochs", "max_steps", "max_time")  # where none is given, `budget` holds


def refuse_a_spent_budget(settings: dict[str, Any], trainer: Any, *, is_completed: bool) -> None:
    """A budget that ends where the run is has its weights tested, unless that has been done.

    `settings` is `trainer:` of the config. Raises UserError.
    """
    step, last = trainer.step, trainer.last_step
    if step < last or (step == last and not is_completed):
        return
    given = [f"trainer.{key}={settings[key]}" for key in BUDGETS if settings[key]]
    raise UserError(
        f"nothing is left to train: the run is at step {step:,}, its budget ends at {last:,}\n"
        f"of {', '.join(given) or 'its budgets'} the first that is reached ends it; "
        "null takes one away"
    )
