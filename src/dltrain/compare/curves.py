"""`metrics.jsonl` as curves, read line by line and only where they are asked for."""

from __future__ import annotations

import bisect
import json
from array import array
from collections.abc import Iterable
from pathlib import Path

from dltrain import plain, runs
from dltrain.compare.run import number
from dltrain.errors import UserError

MAX_BYTES = 64 << 20  # 250,000 rows
MAX_LINE = 64 << 10
SPLITS = ("train", "val", "test")


class Curve:
    """Values by step, in the order of the steps: 16 bytes a point."""

    def __init__(self) -> None:
        self.steps, self.values = array("q"), array("d")

    def append(self, step: int, value: float) -> None:
        if not self.steps or step > self.steps[-1]:
            self.steps.append(step)
            self.values.append(value)

    def at(self, step: int) -> float | None:
        """The newest value at that step or before; None before the first and behind the last."""
        index = bisect.bisect_right(self.steps, step) - 1
        return self.values[index] if index >= 0 and step <= self.steps[-1] else None


Name = tuple[str, str]  # the metric and the split


def read_curves(run_dir: Path, wanted: Iterable[Name]) -> dict[Name, Curve]:
    """A curve for each of `wanted`, empty where the run has none; lines that are no rows are left
    out, as the torn last one of a killed run is. Raises UserError for a file that is none."""
    curves = {name: Curve() for name in wanted}
    path = run_dir / runs.METRICS
    try:
        with plain.open_regular(path) as file:
            left = MAX_BYTES
            while left > 0 and (line := file.readline(MAX_LINE)):
                left -= len(line)
                add_row(line, curves)
    except FileNotFoundError:
        pass
    except plain.PLAIN_ERRORS as error:
        raise UserError(f"{path} cannot be read: {runs.reason(error)}") from None
    return curves


def add_row(line: bytes, curves: dict[Name, Curve]) -> None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return
    if not isinstance(row, dict) or not runs.is_count(row.get("step")):
        return
    for (metric, split), curve in curves.items():
        if row.get("split") == split and (value := number(row.get(metric))) is not None:
            curve.append(row["step"], float(value))
