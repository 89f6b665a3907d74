"""Rows over runs, or over groups of runs that differ in nothing but what is grouped over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dltrain.compare import settings, where
from dltrain.compare.columns import RUN, STATUS, Column, Columns, N
from dltrain.compare.find import natural
from dltrain.compare.metrics import Metric, default_metrics
from dltrain.compare.run import STATUSES, Run, Value
from dltrain.effects import MACHINE
from dltrain.errors import UserError


@dataclass(frozen=True)
class Stat:
    """Mean and sample standard deviation (ddof=1; None of one value) of `n` values, which `of` so
    many runs have."""

    mean: float
    std: float | None
    n: int
    of: int


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
            numbers = [value for value in values if isinstance(value, int | float)]
            return stat(numbers, of=len(values))
        if column is STATUS:
            counts = Counter(run.status for run in self.runs)
            names = counts.most_common()
            return ", ".join(f"{n} {name}" if len(names) > 1 else name for name, n in names)
        if column.name == N.name:
            return len(self.runs)
        return values[0] if len(set(values)) == 1 else "varied"


@dataclass
class Table:
    columns: list[Column]
    rows: list[list[Cell]]
    groups: list[Group]
    may_shrink: bool = True  # nobody has asked for just these columns
    metrics: list[Metric] = field(default_factory=list)  # what came out, the first is drawn
    notes: list[str] = field(default_factory=list)


def make_table(found: Sequence[Run], options: Options) -> Table:
    """Raises UserError for what no run has, and where no run is left."""
    columns = Columns(found, options.at)
    kept = filtered(found, columns, options.where) if options.where else list(found)
    notes = columns.curves.notes
    columns.narrow(kept)
    over = group_keys(options.group, columns)
    if options.metrics:
        chosen = columns.metrics_typed(options.metrics)
    else:
        chosen = default_metrics(columns.found, options.at)
    sorting = columns.one(options.sort, "--sort") if options.sort else None
    asked = columns.typed(options.columns) if options.columns else []
    if not over and N in (*asked, sorting):
        raise UserError("`n` is of groups; --group seed makes some")
    for metric in chosen if options.metrics or not asked else []:
        columns.metric(metric)
    columns.load()
    notes += columns.curves.notes
    shown = asked or columns.default(chosen, over)
    groups = [Group([run]) for run in kept]
    if over:
        groups = grouped(columns.found, [key for key in columns.varied if key not in over])
        if not groups:
            raise UserError("no run is left that can be compared: all are damaged or foreign")
        shown = shown if asked else with_count(shown)
        notes += [*repeated(groups, over), *together(groups, over)]
    rows = [[group.cell(column, grouped=bool(over)) for column in shown] for group in groups]
    table = Table(shown, rows, groups, may_shrink=not asked, metrics=chosen, notes=notes)
    if over:
        table.notes += [f"mean ± sample standard deviation (ddof=1) over {', '.join(over)}"]
    if sorting:
        sort_rows(table, sorting, options, bool(over))
    return table


def filtered(found: Sequence[Run], columns: Columns, text: str) -> list[Run]:
    """Those of which all holds. Raises UserError, with the values that there are, for none."""
    conditions = [(each, columns.one(each.key, "--where")) for each in where.parse(text)]
    if any(column is N for _, column in conditions):
        raise UserError("--where: `n` is of groups, and it chooses runs")
    columns.load()
    kept = [run for run in found if all(c.holds(col.get(run)) for c, col in conditions)]
    if not kept:
        values = {
            column.name: [column.get(run) for run in found if run.is_compared or column is STATUS]
            for _, column in conditions
        }
        there_are = [f"{name} is {in_short(values[name])}" for name in list(values)[:4]]
        raise UserError("\n".join([f"no run is left by --where '{text}'", *there_are]))
    return kept


def in_short(values: Sequence[Value], most: int = 6) -> str:
    """The different ones in order, or the ends of very many."""
    texts = [settings.show(value)[:60] for value in sorted(values, key=order)]
    different = list(dict.fromkeys(texts))
    if len(different) <= most:
        return ", ".join(different) or "nothing"
    if all(where.as_number(value) is not None for value in values):
        return f"one of {len(different)} values from {different[0]} to {different[-1]}"
    return ", ".join(different[:most]) + f", ... ({len(different)} values)"


def group_keys(text: str, columns: Columns) -> list[str]:
    """Of `--group seed,split_seed`. Raises UserError for what is no setting."""
    keys = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        key = settings.resolve(word, columns.all, columns.varied)
        if key is None:
            raise settings.unknown(word, columns.all, ())
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


def together(groups: Sequence[Group], over: Sequence[str]) -> list[str]:
    """A note where runs of several machines are in one group."""
    keys = [key for key in MACHINE if key not in over]
    keys = [key for key in keys if any(settings.is_varied(key, each.runs) for each in groups)]
    return [f"runs that differ in {', '.join(keys)} alone are in one group"] if keys else []


def with_count(columns: list[Column]) -> list[Column]:
    """Without the run, and with how many there are."""
    columns = [column for column in columns if column is not RUN]
    at = columns.index(STATUS)
    return [*columns[:at], N, *columns[at:]]


def stat(values: Sequence[float], *, of: int | None = None) -> Stat | None:
    """numpy's own mean and deviation, to the last digit."""
    if not values:
        return None
    import numpy  # 0.1 s, which a table without groups does not need

    array = numpy.array(values, numpy.float64)
    std = float(array.std(ddof=1)) if len(values) > 1 else None
    return Stat(float(array.mean()), std, len(values), len(values) if of is None else of)


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
