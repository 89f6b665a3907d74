"""How `checkpoint.monitor` went in a run: its evaluations, read from its `metrics.jsonl`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from dltrain import runs

HEAD = ("step", "epoch", "split", "time")


class Evaluation(NamedTuple):
    """A row of the monitored split; `value` is None where it, or another metric of the row, is not
    finite: such weights are never the best of a run either."""

    step: int
    epoch: int  # completed ones
    value: float | None


def read_evaluations(run_dir: Path, monitor: str) -> list[Evaluation]:
    """In the order of the steps; none where the run has none yet. Lines that are no rows are left
    out, as the torn last one of a killed run is. Raises UserError for a file that is none, or of
    more rows than are read of a run."""
    metric, _, split = monitor.rpartition("/")
    found: list[Evaluation] = []
    for row in runs.read_rows(run_dir):
        if row.get("split") != split or metric not in row:
            continue
        step: Any = row.get("step")
        epoch: Any = row.get("epoch")
        if runs.is_count(step) and runs.is_count(epoch) and (not found or step > found[-1].step):
            found.append(Evaluation(step, epoch, sound_value(row, metric)))
    return found


def sound_value(row: dict[str, Any], metric: str) -> float | None:
    """JSON has no NaN: what was not finite is null in the file."""
    values = [value for name, value in row.items() if name not in HEAD]
    if any(not is_finite(value) for value in values):
        return None
    return float(row[metric])


def is_finite(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= 1e300
