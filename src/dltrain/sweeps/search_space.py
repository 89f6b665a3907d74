"""What a search tries: the axes of a sweep as parameters that a sampler draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isclose, prod
from typing import Any

from dltrain.config.grammar import Term
from dltrain.errors import UserError
from dltrain.sweeps.chooser import Chooser
from dltrain.sweeps.space import Axis, Row, Space

DIGITS = 6  # of a number that was drawn: what is typed again to repeat it
MAX_GRID = 100_000
# (what an axis gives, what was chosen before) -> what of it counts, as `sweep.when` says
Kept = Callable[[Row, Mapping[str, str]], Row]


@dataclass(frozen=True)
class Parameter:
    """Either one of `rows`, each a few keys with their values; or, where there are none, a number
    for the key `name`, from `low` to `high`, both included."""

    name: str
    rows: tuple[Row, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    whole: bool = False
    conditional: bool = False

    @property
    def labels(self) -> list[str]:
        """Of the rows: what optuna, and whoever reads its journal, knows of them."""
        if all(len(row) == 1 for row in self.rows):
            return [value for row in self.rows for value in row.values()]
        return [" ".join(f"{key}={value}" for key, value in row.items()) for row in self.rows]

    def row(self, value: Any) -> Row:
        """Of what was drawn: a label, or a number."""
        if self.rows:
            return self.rows[self.labels.index(value)]
        if self.whole:
            return {self.name: str(value)}
        rounded = float(f"{value:.{DIGITS}g}")
        return {self.name: repr(float(min(max(rounded, self.low), self.high)))}

    def num_values(self) -> int | None:
        """None where they are without end."""
        step = self.step or (1 if self.whole else 0)
        if self.rows or not step:
            return len(self.rows) or None
        return int((self.high - self.low) / step + 1e-9) + 1

    def values(self) -> list[Any]:
        """All, where they have an end."""
        if self.rows:
            return self.labels
        found = [self.low + i * (self.step or 1) for i in range(self.num_values() or 0)]
        return [int(value) for value in found] if self.whole else found


def parameters_of(space: Space, chooser: Chooser, terms: Sequence[Term]) -> list[Parameter]:
    """Each behind those that its conditions ask for. `terms`: as the axes were written, for what
    they no longer tell: a range is numbers in a row, and not so many names."""
    ranges = {term.key for term in terms if "range(" in term.text.partition("=")[2]}
    found = []
    for axis in (space.axes[index] for index in chooser.order):
        conditional = any(key.lstrip("+") in space.when for key in axis.keys)
        found.append(parameter(axis, is_range=axis.keys[0] in ranges, conditional=conditional))
    return found


def parameter(axis: Axis, *, is_range: bool = False, conditional: bool = False) -> Parameter:
    interval, name = axis.interval, " ".join(axis.keys)
    if interval is not None:
        return Parameter(
            name,
            low=interval.low,
            high=interval.high,
            log=interval.log,
            whole=interval.whole,
            conditional=conditional,
        )
    numbers = numbers_in_a_row(axis) if is_range else None
    if numbers is None:
        return Parameter(name, axis.rows, conditional=conditional)
    return Parameter(
        name,
        low=numbers[0],
        high=numbers[-1],
        step=numbers[1] - numbers[0],
        whole=all(isinstance(number, int) for number in numbers),
        conditional=conditional,
    )


def numbers_in_a_row(axis: Axis) -> list[float] | None:
    """Ascending, one step apart; None where they are not."""
    if len(axis.keys) > 1 or len(axis.rows) < 2:
        return None
    texts = [value for row in axis.rows for value in row.values()]
    try:
        numbers: list[float] = sorted(map(int, texts))
    except ValueError:
        try:
            numbers = sorted(map(float, texts))
        except ValueError:
            return None
    step = numbers[1] - numbers[0]
    even = all(isclose(b - a, step) for a, b in pairwise(numbers))
    return numbers if even and step > 0 else None


def grid_size(parameters: Sequence[Parameter]) -> int:
    """Raises UserError where a parameter's values are without end, or it has a condition."""
    for each in parameters:
        if each.num_values() is None:
            raise UserError(
                f"sweep.optuna.sampler is grid, and {each.name} is an interval, which has no end "
                "of values: list some, or take another sampler"
            )
        if each.conditional:
            raise UserError(
                f"sweep.optuna.sampler is grid, and {each.name} has a condition: take another "
                "sampler, or hydra/sweeper=grid"
            )
    size = prod(each.num_values() or 0 for each in parameters)
    if size > MAX_GRID:
        raise UserError(
            f"sweep.optuna.sampler is grid, and the grid has {size:,} points, which are more than "
            f"{MAX_GRID:,}: list fewer values, or take another sampler"
        )
    return size
