"""What a sweep tries: the axes of its grid, made of what was typed and of the `sweep` node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dltrain.config.grammar import Interval, Term, write
from dltrain.config.near import did_you_mean
from dltrain.config.sweep import groups_of
from dltrain.config.sweep_messages import split_by_yaml
from dltrain.errors import UserError
from dltrain.sweeps.conditions import Condition, read_conditions

Row = dict[str, str]  # key -> value, as it is written after the =
Reader = Callable[[str, Any], Term]  # a key and what a file says of it -> the term
NEVER_SWEPT = ("hydra", "sweep")
MAX_SHOWN = 60


@dataclass(frozen=True)
class Axis:
    """Keys that change together: one row of values after the other, or a number of an interval."""

    rows: tuple[Row, ...]
    interval: Interval | None = None
    key: str = ""  # of the interval
    text: str = ""  # as it was typed

    @property
    def keys(self) -> list[str]:
        return [self.key] if self.interval else list(dict.fromkeys(k for r in self.rows for k in r))


@dataclass
class Space:
    """The axes in the order in which they are written: the last changes fastest."""

    typed: list[Term]  # what every job has, and where what varies stood among it
    axes: list[Axis]
    when: dict[str, list[Condition]]
    repeat: int = 1
    notes: list[str] = field(default_factory=list)  # what the user should hear of

    @property
    def keys(self) -> list[str]:
        return [key for axis in self.axes for key in axis.keys]

    def overrides(self, chosen: Mapping[str, str]) -> list[str]:
        """Of one job: in the order in which they were typed, then what files add."""
        left = dict(chosen)
        found = []
        for term in self.typed:
            if term.key in left:
                found.append(f"{term.key}={left.pop(term.key)}")
            elif not term.is_swept and term.bare_key not in self.when:
                found.append(term.text)
        return [*found, *(f"{key}={value}" for key, value in left.items())]


def make_space(typed: Sequence[Term], settings: Mapping[str, Any], read: Reader) -> Space:
    """Raises UserError in one sentence for what cannot be meant.

    typed: what was typed, `sweep.*` and `sweep=` aside; settings: the `sweep` node, checked.
    """
    own = {term.bare_key: term for term in typed}
    notes: list[str] = []
    grid = [read(key, value) for key, value in flat(settings["grid"])]
    grid = [term for term in grid if not taken(term.bare_key, own, "sweep.grid", notes)]
    rows = setting_rows(settings["list"] or [], own, notes)
    listed = {key.lstrip("+") for row in rows for key in row}
    for term in [*grid, *(each for each in typed if each.is_swept)]:
        if term.bare_key.split(".")[0].split("/")[0].split("@")[0] in NEVER_SWEPT:
            raise UserError(f"`{shown(term.text)}`: {term.bare_key} cannot be swept over")
        if term.bare_key in listed:
            raise UserError(f"{term.bare_key} is in sweep.grid and in sweep.list; keep one of them")
    when = read_conditions(settings["when"])
    terms = [*grid, *(each for each in typed if each.is_swept or each.bare_key in when)]
    refuse_unknown(when, [*listed, *(term.bare_key for term in terms)], "sweep.when")
    axes = [Axis(tuple(rows))] if rows else []
    axes += zipped(terms, groups_of(settings["zip"]) or [], own)
    space = Space(list(typed), axes, when, settings["repeat"], notes)
    if space.repeat > 1 and "seed" in [key.lstrip("+") for key in space.keys]:
        raise UserError(
            f"sweep.repeat is {space.repeat}, and seed is swept over as well; keep one of them"
        )
    return space


def flat(grid: Mapping[str, Any] | None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{optimizer: {lr: [...]}}` says the same as `{optimizer.lr: [...]}`."""
    if why := split_by_yaml(grid or ()):
        raise UserError(f"sweep.grid: {why}")
    for name, value in (grid or {}).items():
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"sweep.grid holds the key {name!r}; a key is text, as optimizer.lr")
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif value is None:
            raise UserError(f"sweep.grid.{prefix}{name} is empty; list its values: [0.1, 0.01]")
        else:
            yield f"{prefix}{name}", value


def taken(key: str, own: Mapping[str, Term], where: str, notes: list[str]) -> bool:
    """Whether the command line says what the key takes: that wins, and is said."""
    if key not in own:
        return False
    notes.append(f"`{shown(own[key].text)}` was typed: what {where} says of it is not tried")
    return True


def setting_rows(listed: Sequence[Any], own: Mapping[str, Term], notes: list[str]) -> list[Row]:
    """`sweep.list` without what was typed; of settings that become equal by that, one stays."""
    rows: list[Row] = []
    for number, setting in enumerate(listed):
        row = {str(key): write(value) for key, value in setting.items()}
        if row in rows:
            first = rows.index(row)
            raise UserError(f"sweep.list: the settings {first} and {number} are equal")
        rows.append(row)
    for key in dict.fromkeys(key for row in rows for key in row):
        if key.split(".")[0] in NEVER_SWEPT:
            raise UserError(f"sweep.list: {key} cannot be swept over")
        if taken(key.lstrip("+"), own, "sweep.list", notes):
            rows = [{k: value for k, value in row.items() if k != key} for row in rows]
    return [row for number, row in enumerate(rows) if row and row not in rows[:number]]


def refuse_unknown(names: Any, known: Sequence[str], where: str) -> None:
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            raise UserError(
                f"{where} names {name}, which is not swept over; "
                + (near or f"give it values: {name}=a,b")
            )


def zipped(
    terms: Sequence[Term], groups: Sequence[Sequence[str]], own: Mapping[str, Term]
) -> list[Axis]:
    """An axis for each term; those of a group of sweep.zip are one, where the first stands."""
    by_key = {term.bare_key: term for term in terms}
    group_of: dict[str, Sequence[str]] = {}
    for group in groups:
        for key in group:
            if key in own and not own[key].is_swept:
                raise UserError(
                    f"sweep.zip pairs {key}, which has one value, `{shown(own[key].text)}`; "
                    "give it as many as the others, or take it out of sweep.zip"
                )
            refuse_unknown([key], list(by_key), "sweep.zip")
            if key in group_of:
                raise UserError(f"sweep.zip names {key} twice")
            group_of[key] = group
    axes = []
    for key in by_key:
        group = group_of.get(key, [key])
        if group[0] == key or key not in group_of:
            axes.append(axis_of([by_key[each] for each in group]))
    return axes


def axis_of(terms: Sequence[Term]) -> Axis:
    first = terms[0]
    if len(terms) == 1 and first.interval is not None:
        return Axis((), first.interval, first.key, first.text)
    lengths = {term.bare_key: len(term.values or (term.fixed,)) for term in terms}
    for term in terms:
        if term.interval is not None:
            raise UserError(f"sweep.zip: `{shown(term.text)}` is an interval; list its values")
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{key} {count}" for key, count in lengths.items())
        raise UserError(f"sweep.zip: the keys must have equally many values, but have {counts}")
    columns = [[(term.key, value) for value in term.values or (term.fixed,)] for term in terms]
    return Axis(tuple(dict(row) for row in zip(*columns, strict=True)))


def shown(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
