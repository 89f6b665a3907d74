"""`metrics.jsonl` as curves, read line by line and only where they are asked for."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dltrain import runs
from dltrain.compare.run import number

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
    """A curve for each of `wanted`, empty where the run has none. Raises UserError, as
    `runs.read_rows` does."""
    curves = {name: Curve() for name in wanted}
    for row in runs.read_rows(run_dir):
        if runs.is_count(row.get("step")):
            add_row(row, curves)
    return curves


def add_row(row: dict[str, Any], curves: dict[Name, Curve]) -> None:
    for (metric, split), curve in curves.items():
        if row.get("split") == split and (value := number(row.get(metric))) is not None:
            curve.append(row["step"], float(value))
