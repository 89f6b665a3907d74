"""Rows over runs, or over groups of runs that differ in nothing but what is grouped over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dltrain.compare import settings, where
from dltrain.compare.columns import RUN, STATUS, Column, Columns
from dltrain.compare.find import natural
from dltrain.compare.metrics import default_metrics
from dltrain.compare.run import STATUSES, Run, Value
from dltrain.errors import UserError


@dataclass(frozen=True)
class Stat:
    """Mean and sample standard deviation (ddof=1; None of one value) of `n` values."""

    mean: float
    std: float | None
    n: int


Cell = Value | Stat


@dataclass(frozen=True)
class Options:
    """What is asked for, as it was typed."""

    group: str = ""
    metrics: str = ""
    columns: str = ""
    at: int | None = None
    where: str = ""
    sort: str = ""
    descending: bool = False


@dataclass
class Group:
    """Runs of one setting; without `--group` each has one run."""

    runs: list[Run]

    def cell(self, column: Column, *, grouped: bool) -> Cell:
        if not grouped:
            return column.get(self.runs[0])
        values = [column.get(run) for run in self.runs]
        if column.measured:
            return stat([value for value in values if isinstance(value, int | float)])
        if column is STATUS:
            counts = Counter(run.status for run in self.runs)
            names = counts.most_common()
            return ", ".join(f"{n} {name}" if len(names) > 1 else name for name, n in names)
        if column.name == N.name:
            return len(self.runs)
        return values[0] if len(set(values)) == 1 else "varied"


N = Column("n", ("n",), lambda run: 1)


@dataclass
class Table:
    columns: list[Column]
    rows: list[list[Cell]]
    groups: list[Group]
    may_shrink: bool = True  # nobody has asked for just these columns
    notes: list[str] = field(default_factory=list)


def make_table(found: Sequence[Run], options: Options) -> Table:
    """Raises UserError for what no run has, and where no run is left."""
    columns = Columns(found, options.at)
    conditions = [
        (condition, columns.one(condition.key, "--where"))
        for condition in (where.parse(options.where) if options.where else [])
    ]
    over = group_keys(options.group, columns)
    chosen = columns.metrics_typed(options.metrics) if options.metrics else None
    sorting = columns.one(options.sort, "--sort") if options.sort else None
    asked = columns.typed(options.columns) if options.columns else []
    for metric in chosen or []:
        columns.metric(metric)
    if not asked and chosen is None:
        chosen = default_metrics(columns.found, options.at)
        for metric in chosen:
            columns.metric(metric)
    columns.load()
    notes = columns.curves.notes
    kept = [run for run in found if all(c.holds(col.get(run)) for c, col in conditions)]
    if not kept:
        raise UserError(f"no run is left by --where '{options.where}'")
    columns.found = [run for run in kept if run.is_compared]  # what differs among those
    columns.varied = settings.differing(columns.found)
    shown = asked or columns.default(chosen or [], over)
    groups = [Group([run]) for run in kept]
    if over:
        groups = grouped(columns.found, [key for key in columns.varied if key not in over])
        if not groups:
            raise UserError("no run is left that can be compared: all are damaged or foreign")
        shown = shown if asked else with_count(shown)
        notes += repeated(groups, over)
    rows = [[group.cell(column, grouped=bool(over)) for column in shown] for group in groups]
    table = Table(shown, rows, groups, may_shrink=not asked, notes=notes)
    if over:
        table.notes += [f"mean ± sample standard deviation (ddof=1) over {', '.join(over)}"]
    if sorting:
        sort_rows(table, sorting, options, bool(over))
    return table


def group_keys(text: str, columns: Columns) -> list[str]:
    """Of `--group seed,split_seed`. Raises UserError for what is no setting."""
    keys = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        key = settings.resolve(word, columns.found, columns.varied)
        if key is None:
            raise settings.unknown(word, columns.found, ())
        keys.append(key)
    return keys


def grouped(found: Sequence[Run], keys: Sequence[str]) -> list[Group]:
    """By equal values of `keys`, sorted by them."""
    groups: dict[tuple[object, ...], Group] = {}
    for run in found:
        setting = tuple(settings.identity(run, key) for key in keys)
        groups.setdefault(setting, Group([])).runs.append(run)
    return sorted(
        groups.values(), key=lambda group: [order(group.runs[0].settings.get(k)) for k in keys]
    )


def repeated(groups: Sequence[Group], over: Sequence[str]) -> list[str]:
    """A note where a seed was trained twice: its runs are counted each, and the deviation is
    smaller than it should be."""
    num_runs = sum(len(group.runs) for group in groups)
    num_different = sum(
        len({tuple(settings.identity(run, key) for key in over) for run in group.runs})
        for group in groups
    )
    if num_runs == num_different:
        return []
    return [
        f"{num_runs - num_different} of the runs repeat another's {', '.join(over)}; each counts "
        "(--where leaves runs out)"
    ]


def with_count(columns: list[Column]) -> list[Column]:
    """Without the run, and with how many there are."""
    columns = [column for column in columns if column is not RUN]
    at = columns.index(STATUS)
    return [*columns[:at], N, *columns[at:]]


def stat(values: Sequence[float]) -> Stat | None:
    """numpy's own mean and deviation, to the last digit."""
    if not values:
        return None
    import numpy  # 0.1 s, which a table without groups does not need

    array = numpy.array(values, numpy.float64)
    std = float(array.std(ddof=1)) if len(values) > 1 else None
    return Stat(float(array.mean()), std, len(values))


def order(value: Cell) -> tuple[int, float, list[Any]]:
    """Numbers, then text, then nothing."""
    if isinstance(value, Stat):
        value = value.mean
    if value is None:
        return (2, 0.0, [])
    if isinstance(value, str):
        return (1, 0.0, natural(value))
    return (0, float(value), [])


def sort_rows(table: Table, column: Column, options: Options, has_groups: bool) -> None:
    """What has no value stays last either way."""
    cells = [group.cell(column, grouped=has_groups) for group in table.groups]
    indices = list(range(len(cells)))
    present = [i for i in indices if cells[i] is not None]
    present.sort(key=lambda i: order(cells[i]), reverse=options.descending)
    indices = present + [i for i in indices if cells[i] is None]
    table.rows = [table.rows[i] for i in indices]
    table.groups = [table.groups[i] for i in indices]


def what_is_not_compared(found: Sequence[Run], most: int = 5) -> list[str]:
    """A line for a run whose files cannot be read as those of a run, and for a folder of none."""
    others = [run for run in found if run.status not in (*STATUSES, "killed")]
    lines = [f"{run.path} is {run.status}: {run.reason}" for run in others[:most]]
    left = len(others) - most
    return lines + (
        [f"and {left} more are damaged or foreign (--where status!=completed)"] * (left > 0)
    )
