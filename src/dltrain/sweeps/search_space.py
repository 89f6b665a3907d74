"""What a search may try: a parameter is a range or a list of choices, and may have a condition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any

from dltrain.errors import UserError

DIGITS = 6  # of a number that was drawn: what is typed again to repeat it
MAX_GRID = 100_000
Options = Callable[[str], list[str]]  # a group -> its choices


@dataclass(frozen=True)
class Parameter:
    """`key` as it stands before the `=` (`optimizer.lr`, `+experiment`); either `choices`, as they
    stand behind it, or from `low` to `high`, both included."""

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    whole: bool = False
    when: str = ""  # `model=cnn` or `model=cnn,resnet`: it is there only in trials where that holds

    @property
    def name(self) -> str:
        return self.key.lstrip("+~")

    def text(self, value: Any) -> str:
        """The value behind the `=`."""
        if self.choices or self.whole:
            return str(value)
        rounded = float(f"{value:.{DIGITS}g}")
        return repr(float(min(max(rounded, self.low), self.high)))

    def num_values(self) -> int | None:
        """None where they are without end."""
        step = self.step or (1 if self.whole else 0)
        if self.choices or not step:
            return len(self.choices) or None
        return int((self.high - self.low) / step + 1e-9) + 1

    def values(self) -> list[Any]:
        """All, where they have an end."""
        if self.choices:
            return list(self.choices)
        found = [self.low + i * (self.step or 1) for i in range(self.num_values() or 0)]
        return [int(value) for value in found] if self.whole else found


# ---------------------------------------------------------------------- from Hydra's grammar


def parameter(override: Any, options: Options, when: str = "") -> Parameter:
    """Of a parsed sweep override of Hydra. Raises UserError where nothing can be tried."""
    kind, key = override.value_type.name, str(override.get_key_element())
    made = Parameter(key, when=when)
    value = override.value()
    if kind == "INTERVAL_SWEEP":
        return interval(made, value)
    if kind == "RANGE_SWEEP":
        return from_range(made, value)
    if kind == "GLOB_CHOICE_SWEEP":
        found = value.filter(options(made.name.partition("@")[0]))
    else:
        found = list(dict.fromkeys(override.sweep_string_iterator()))
    if not found:
        raise UserError(f"`{override.input_line}` gives no value to try")
    return replace(made, choices=tuple(map(str, found)))


def interval(made: Parameter, value: Any) -> Parameter:
    low, high, tags = value.start, value.end, set(value.tags)
    whole = "int" in tags or (isinstance(low, int) and isinstance(high, int))
    is_log = "log" in tags
    text = f"interval({low:g},{high:g})"
    if unknown := tags - {"log", "int", "float"}:
        raise UserError(f"{made.name}: there is no tag `{min(unknown)}`; write tag(log, {text})")
    if not low < high:
        raise UserError(f"{made.name}: {text} is empty; the first number must be the smaller one")
    if is_log and low <= 0:
        raise UserError(f"{made.name}: {text} with the tag log must begin above 0")
    if whole and (low != int(low) or high != int(high)):
        raise UserError(f"{made.name}: {text} with the tag int must have whole numbers as its ends")
    return replace(made, low=low, high=high, log=is_log, whole=whole)


def from_range(made: Parameter, value: Any) -> Parameter:
    """Hydra's range has no end of its own: the last value is the one before `stop`."""
    count = ceil((value.stop - value.start) / value.step - 1e-9) if value.step else 0
    if count < 1:
        raise UserError(f"{made.name}: the range gives no value to try")
    last = value.start + (count - 1) * value.step
    low, high = min(value.start, last), max(value.start, last)
    if "log" in value.tags:
        raise UserError(
            f"{made.name}: a range has no tag log; write tag(log, int(interval({low:g},{high:g})))"
        )
    if count == 1:
        return replace(made, choices=(str(low),))
    whole = isinstance(low, int) and isinstance(high, int)
    return replace(made, low=low, high=high, step=abs(value.step), whole=whole)


# ---------------------------------------------------------------------- conditions


def in_order(parameters: Sequence[Parameter], known: Mapping[str, str]) -> list[Parameter]:
    """Each behind those that its condition asks for. `known`: what every job has, key -> value."""
    names = [each.name for each in parameters]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UserError(f"{min(twice)} is given twice in the search space; keep one of them")
    for each in parameters:
        for key, _ in conditions(each):
            if key not in names and key not in known:
                raise UserError(
                    f"{each.name} is to be tried when {each.when}, and there is no `{key}`: it "
                    "must be a parameter of the search, a group, or a key of the config"
                )
    left, done = list(parameters), []
    while left:
        ready = [e for e in left if not {key for key, _ in conditions(e)} & {p.name for p in left}]
        if not ready:
            raise UserError(
                f"the conditions of {' and '.join(each.name for each in left[:3])} wait for one "
                "another; take one of them away"
            )
        done += ready
        left = [each for each in left if each not in ready]
    return done


def conditions(parameter: Parameter) -> list[tuple[str, list[str]]]:
    """`model=cnn,resnet optimizer=sgd` -> what all must hold: a key and the values it may have."""
    found = []
    for part in parameter.when.split():
        key, equals, values = part.partition("=")
        if not (key and equals and values):
            raise UserError(
                f"{parameter.name}: its condition `{parameter.when}` must look like model=cnn"
            )
        found.append((key, values.split(",")))
    return found


def holds(parameter: Parameter, chosen: Mapping[str, str]) -> bool:
    """Whether the trial that has `chosen` (key -> value) so far has the parameter."""
    return all(chosen.get(key) in values for key, values in conditions(parameter))


def grid_size(parameters: Sequence[Parameter]) -> int:
    """Raises UserError where a parameter's values are without end, or it has a condition."""
    for each in parameters:
        if each.num_values() is None:
            raise UserError(
                f"sweep.optuna.sampler is grid, and {each.name} is an interval, which has no end "
                "of values: list some, or take another sampler"
            )
        if each.when:
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
