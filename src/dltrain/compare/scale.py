"""A numeric setting on an axis or in colours: linear, or in decades where it was spread so."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log10
from typing import Any

from dltrain.compare.run import Value, number

WIDE = 10  # times the smallest: from here on it may be decades
SURELY = 0.15  # so much more evenly linear values are spread: searches leave few of a kind
MAX_TICKS, CHARACTER = (
    8,
    0.017,
)  # ticks at the values themselves; the part of an axis a letter takes
DARK_TO_BRIGHT = (0.0, 0.9)  # of viridis, whose yellow paper swallows


def number_of(value: Value) -> float | None:
    """Of a number, and of a list of one: `[32]` is a width."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            return number(float(value[1:-1]))
        except ValueError:
            return None
    found = number(value)
    return None if found is None else float(found)


@dataclass(frozen=True)
class Scale:
    """`kind` is linear, log, or symlog: log from `least`, the smallest above 0, with a place for 0
    below it."""

    kind: str
    values: tuple[float, ...]  # different ones, in order
    least: float

    def place(self, value: float) -> float:
        """From 0 to 1."""
        low, high = self.values[0], self.values[-1]
        if self.kind == "log":
            low, high, value = log10(low), log10(high), log10(value)
        elif self.kind == "symlog":  # 0 is a decade below the smallest
            first, last = log10(self.least), log10(high)
            return (1 + log10(value) - first if value else 0.0) / (1 + last - first)
        return (value - low) / (high - low) if high > low else 0.5

    def color(self, value: float) -> Any:
        dark, bright = DARK_TO_BRIGHT
        return viridis()(dark + (bright - dark) * self.place(value))

    def set_ticks(self, axis: Any) -> None:
        """At the values where they are few, else round numbers; never in mathematics, which our
        style does not set."""
        from matplotlib import ticker

        places = [self.place(value) for value in self.values]
        room = CHARACTER * (2 + max(len(f"{value:g}") for value in self.values))
        if len(places) <= MAX_TICKS and all(b - a >= room for a, b in pairwise(places)):
            axis.set_major_locator(ticker.FixedLocator(list(self.values)))
        elif self.kind == "log":
            num_decades = log10(self.values[-1] / self.values[0])
            subs = (1.0,) if num_decades > 2.5 else (1.0, 3.0) if num_decades > 1.5 else (1, 2, 5)
            axis.set_major_locator(ticker.LogLocator(subs=subs))
        elif self.kind == "symlog":
            axis.set_major_locator(ticker.SymmetricalLogLocator(base=10, linthresh=self.least))
        axis.set_minor_locator(ticker.NullLocator())
        axis.set_major_formatter(lambda value, _: f"{value:g}")

    def options(self) -> dict[str, Any]:
        """What matplotlib takes beside `kind`; so much of `linscale` is a decade."""
        return {"linthresh": self.least, "linscale": 0.9} if self.kind == "symlog" else {}

    def add_bar(self, made: Any, axes: Any, label: str) -> None:
        """The colours of `color`, beside the axes."""
        from matplotlib import cm, colors

        dark, bright = DARK_TO_BRIGHT
        steps = [dark + (bright - dark) * at / 255 for at in range(256)]
        norms = {"linear": colors.Normalize, "log": colors.LogNorm, "symlog": colors.SymLogNorm}
        norm = norms[self.kind](vmin=self.values[0], vmax=self.values[-1], **self.options())
        shown = cm.ScalarMappable(norm, colors.ListedColormap(viridis()(steps)))
        bar = made.colorbar(shown, ax=axes, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label(label)
        self.set_ticks(bar.ax.yaxis)


def viridis() -> Any:
    import matplotlib

    return matplotlib.colormaps["viridis"]


def scale_of(values: Iterable[float]) -> Scale:
    """In decades where they are more evenly spread there: the median says it, of a grid as of
    values that were drawn."""
    values = tuple(sorted(set(values)))
    positive = [value for value in values if value > 0]
    if len(positive) < 2 or values[0] < 0 or positive[-1] < WIDE * positive[0]:
        return Scale("linear", values, 0.0)
    if off_centre([log10(value) for value in positive]) > off_centre(positive) + SURELY:
        return Scale("linear", values, 0.0)
    return Scale("log" if values[0] > 0 else "symlog", values, positive[0])


def off_centre(values: Sequence[float]) -> float:
    """How far the median is from the middle, as a part of the range."""
    middle = (values[0] + values[-1]) / 2
    return abs(statistics.median(values) - middle) / (values[-1] - values[0])
