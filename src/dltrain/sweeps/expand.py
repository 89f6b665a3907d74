"""A space -> its jobs, in order: every combination, or so many drawn; each over its seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from dltrain.errors import UserError
from dltrain.sweeps.chooser import Chooser, Facts
from dltrain.sweeps.draw import points, scaled
from dltrain.sweeps.ledger_lines import MAX_JOBS
from dltrain.sweeps.space import Axis, Row, Space

# Points drawn for each job that is wanted. Of a space that can be listed few are enough: then the
# last ones, which drawing finds too rarely, are taken from the list
TRIES, TRIES_OF_A_LIST = 200, 2


@dataclass(frozen=True)
class JobSpec:
    """One job: all its overrides, and those of them that differ between the jobs."""

    overrides: list[str]
    swept: dict[str, str]


def jobs_of(
    space: Space, facts: Facts, *, draw: int | None = None, sampler: str = "sobol", seed: int = 0
) -> list[JobSpec]:
    """Every combination in order, the last axis fastest; or `draw` different ones.

    Raises UserError where that cannot be.
    """
    chooser = Chooser(space, facts)
    if draw is None:
        chosen = list(islice(combinations(chooser), MAX_JOBS + 1))
        if len(chosen) * space.repeat > MAX_JOBS:
            raise UserError(
                f"this makes more than {MAX_JOBS} jobs; try so many of them with sweep.random=100"
            )
    else:
        chosen = drawn(chooser, draw, sampler, seed)
    chooser.refuse_unmet()
    for key in space.when:
        if not any(key == name.lstrip("+") for each in chosen for name in each):
            wanted = " and ".join(map(str, space.when[key]))
            space.notes.append(f"{key} is not tried: no job has {wanted}")
    varies = varying(chosen)
    return [job for each in chosen for job in repeats(space, facts, each, varies)]


def combinations(chooser: Chooser) -> Iterator[Row]:
    """All of them, sorted as they are written whatever depends on what."""
    axes, order = chooser.space.axes, chooser.order
    for axis in axes:
        if axis.interval is not None:
            raise UserError(
                f"`{axis.text}`: an interval has no end of values; draw some with "
                "sweep.random=20, or list some: key=1,2,3"
            )
    found: list[tuple[list[int], Row]] = [([0] * len(axes), {})]
    for index in order:
        longer = []
        for at, chosen in found:
            for number, kept in chooser.different(axes[index], chosen):
                longer.append(([*at[:index], number, *at[index + 1 :]], {**chosen, **kept}))
            if len(longer) > MAX_JOBS:
                break
        found = longer
    found.sort(key=lambda each: each[0])
    keys = chooser.space.keys
    for _, chosen in found:
        yield {key: chosen[key] for key in keys if key in chosen}


def drawn(chooser: Chooser, number: int, sampler: str, seed: int) -> list[Row]:
    """Different ones, the same for a seed; the first few of many are those of few."""
    axes = chooser.space.axes
    wide = [index for index, axis in enumerate(axes) if axis.interval or len(axis.rows) > 1]
    if not wide:
        raise UserError(f"sweep.random is {number}, but nothing is swept over; write key=a,b,c")
    found: dict[frozenset[tuple[str, str]], Row] = {}
    tries = TRIES if any(axis.interval for axis in axes) else TRIES_OF_A_LIST
    for point in islice(points(sampler, len(wide), seed), tries * number):
        at = dict(zip(wide, point, strict=True))
        chosen: Row = {}
        for index in chooser.order:
            row = row_at(axes[index], at.get(index, 0.0))
            chosen |= chooser.kept(row, chosen)
        found.setdefault(frozenset(chosen.items()), chosen)
        if len(found) == number:
            break
    if len(found) < number:
        found = with_the_rest(chooser, found, number)
    keys = chooser.space.keys
    return [{key: each[key] for key in keys if key in each} for each in found.values()]


def with_the_rest(
    chooser: Chooser, found: dict[frozenset[tuple[str, str]], Row], number: int
) -> dict[frozenset[tuple[str, str]], Row]:
    """As many as are wanted, those that drawing has not found in the order of the grid."""
    if all(axis.interval is None for axis in chooser.space.axes):
        for each in islice(combinations(chooser), MAX_JOBS):
            found.setdefault(frozenset(each.items()), each)
    if len(found) < number:
        raise UserError(
            f"sweep.random is {number}, but there are {len(found)} different jobs; "
            f"choose sweep.random <= {len(found)}, or leave it out to try them all"
        )
    return dict(islice(found.items(), number))


def row_at(axis: Axis, position: float) -> Row:
    """position: in [0, 1), over the rows or the interval."""
    if axis.interval is not None:
        return {axis.key: scaled(axis.interval, position)}
    return axis.rows[int(position * len(axis.rows))]


def varying(chosen: Sequence[Row]) -> set[str]:
    """Keys that are not the same in all jobs: a value that all have tells none from another."""
    keys = {key for each in chosen for key in each}
    return {key for key in keys if len({each.get(key) for each in chosen}) > 1}


def repeats(space: Space, facts: Facts, chosen: Row, varies: set[str]) -> Iterator[JobSpec]:
    """The job, or one for each of its seeds."""
    swept = {key.lstrip("+"): value for key, value in chosen.items() if key in varies}
    overrides = space.overrides(chosen)
    if space.repeat == 1:
        yield JobSpec(overrides, swept)
        return
    first = facts.value(overrides, "seed")
    if not isinstance(first, int):
        raise UserError(f"seed is {first!r}; for sweep.repeat it must be a whole number")
    others = [text for text in overrides if text.partition("=")[0].lstrip("+") != "seed"]
    for seed in range(first, first + space.repeat):
        yield JobSpec([*others, f"seed={seed}"], {**swept, "seed": str(seed)})
