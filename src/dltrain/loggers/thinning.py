"""Fewer points of a curve that is logged densely, with its extremes among them."""

from __future__ import annotations

import math
from typing import Any

Point = tuple[int, float, float]  # step, value, wall time
Row = tuple[int, float, dict[str, float]]  # step, wall time, values by tag
SLOTS = ("first", "low", "high", "odd", "last")


class Thinning:
    """Of each curve, the first, the least and the largest value of every window of steps.

    A window is one step wide at first, and twice as wide each time that the number of steps has
    doubled: `windows` of them, so that 10,000 steps become a thousand points at most of a curve,
    and each doubling adds three times `windows`. The first value of a window is shown at once, its
    extremes when the next window begins: nothing depends on anything but the steps and the values.
    """

    def __init__(self, windows: int) -> None:
        self.windows = windows
        self.begin = 0  # of the window that is open
        self.open: dict[str, dict[str, Point]] = {}

    def begin_of_window(self, step: int) -> int:
        """The first step of the window of `step`."""
        width = 1 << max(0, (step // self.windows).bit_length() - 1)
        return step - step % width

    def add(self, step: int, values: dict[str, float], wall_time: float) -> list[Row]:
        """The rows to write now, in the order of their steps."""
        rows: list[Row] = []
        begin = self.begin_of_window(step)
        if begin != self.begin:
            rows, self.begin = self.drain(), begin
        new = {tag: value for tag, value in values.items() if tag not in self.open}
        for tag, value in values.items():
            self._note(self.open.setdefault(tag, {}), (step, value, wall_time))
        return [*rows, (step, wall_time, new)] if new else rows

    def drain(self, *slots: str) -> list[Row]:
        """What is still to be written of the open window, which ends; `slots` beside extremes."""
        rows: dict[int, Row] = {}
        for tag, points in self.open.items():
            for slot in ("low", "high", "odd", *slots):
                if slot in points and points[slot][0] != points["first"][0]:
                    step, value, wall_time = points[slot]
                    rows.setdefault(step, (step, wall_time, {}))[2][tag] = value
        self.open = {}
        return [rows[step] for step in sorted(rows)]

    def _note(self, points: dict[str, Point], point: Point) -> None:
        value = point[1]
        points.setdefault("first", point)
        points["last"] = point
        if math.isnan(value):
            points.setdefault("odd", point)
            return
        if "low" not in points or value < points["low"][1]:
            points["low"] = point
        if "high" not in points or value > points["high"][1]:
            points["high"] = point

    def state_dict(self) -> dict[str, Any]:
        """Values as hexadecimal text: exact, and JSON has no NaN."""
        tags = {
            tag: {
                slot: [step, float(value).hex(), time]
                for slot, (step, value, time) in points.items()
            }
            for tag, points in self.open.items()
        }
        return {"begin": self.begin, "open": tags}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError, TypeError, LookupError or AttributeError for what is no such state."""
        self.begin = int(state["begin"])
        self.open = {
            str(tag): {
                slot: (int(points[slot][0]), float.fromhex(points[slot][1]), float(points[slot][2]))
                for slot in SLOTS
                if slot in points
            }
            for tag, points in state["open"].items()
        }
        if any("first" not in points for points in self.open.values()):
            raise ValueError("a window without its first value")
