"""Durations as people say them (`2 epochs`, `500 steps`, `5%`, `90 min`), resolved once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

STEPS, EPOCHS, PERCENT, SECONDS = "steps", "epochs", "%", "seconds"
UNITS = {
    **dict.fromkeys(("step", "steps"), (STEPS, 1.0)),
    **dict.fromkeys(("epoch", "epochs"), (EPOCHS, 1.0)),
    "%": (PERCENT, 1.0),
    **dict.fromkeys(("s", "sec", "second", "seconds"), (SECONDS, 1.0)),
    **dict.fromkeys(("m", "min", "minute", "minutes"), (SECONDS, 60.0)),
    **dict.fromkeys(("h", "hour", "hours"), (SECONDS, 3600.0)),
    **dict.fromkeys(("d", "day", "days"), (SECONDS, 86400.0)),
}
PATTERN = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z%]*)\s*")


@dataclass(frozen=True)
class Duration:
    """An amount of one of the units `steps`, `epochs`, `%` (of the whole run) and `seconds`."""

    amount: float
    unit: str

    def steps(self, *, steps_per_epoch: int, num_steps: int | None) -> int:
        """The duration in optimizer steps, rounded to the nearest.

        `num_steps` is the length of the run, None where only time ends it: then `%` has no length.
        """
        if self.unit == PERCENT and num_steps is None:
            raise ValueError(f"`{self.amount:g}%` needs a budget in steps or epochs, not in time")
        whole = {STEPS: 1, EPOCHS: steps_per_epoch, PERCENT: (num_steps or 0) / 100}[self.unit]
        return round(self.amount * whole)


def parse_duration(text: str, units: tuple[str, ...] = (STEPS, EPOCHS, PERCENT)) -> Duration:
    """Reads `5 epochs`, `500steps`, `5%`, `2 h`; ValueError names the units that `units` allows."""
    wanted = " or ".join(f"`{EXAMPLES[unit]}`" for unit in units)
    match = PATTERN.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write {wanted}")
    amount, unit_name = float(match[1]), match[2].lower()
    if not unit_name:
        raise ValueError(f"{text!r} has no unit; write {wanted}")
    if unit_name not in UNITS or UNITS[unit_name][0] not in units:
        raise ValueError(f"{text!r} has the unit {match[2]!r}; write {wanted}")
    if not math.isfinite(amount):
        raise ValueError(f"{text!r} is not finite; write {wanted}")
    unit, factor = UNITS[unit_name]
    return Duration(amount * factor, unit)


EXAMPLES = {STEPS: "500 steps", EPOCHS: "2 epochs", PERCENT: "5%", SECONDS: "90 min"}
