"""The jobs of a sweep as text: what each varies, what it came to, the best first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from dltrain.plain import printable
from dltrain.sweeps.ledger import FAILED, PENDING, JobRecord, JobState

MAX_ROWS = 50
MAX_CELL = 24
MIN_LABEL = 8
SPACE = "  "


@dataclass(frozen=True)
class Several:
    """Of a search with several objectives: their names, what each job came to, and the jobs that no
    other beats."""

    names: list[str] = field(default_factory=list)
    values: dict[int, list[float]] = field(default_factory=dict)
    front: set[int] = field(default_factory=set)


ONE = Several()


def end_table(
    states: Sequence[JobState], monitor: str, mode: str, width: int, several: Several = ONE
) -> list[str]:
    """Lines of at most `width` columns: a head, then the jobs that have begun, the best first.

    Best by `monitor` and `mode`, those of the front before all others; those that failed come last,
    each with its reason below.
    """
    begun = [state for state in states if state.state != PENDING or state.step]
    begun.sort(
        key=lambda state: (
            monitor_of(state) != monitor,
            state.job.number not in several.front,
            *rank(state, mode),
        )
    )
    shown = begun[:MAX_ROWS]
    if not shown:
        return []
    keys = list(dict.fromkeys(key for state in begun for key in state.job.swept))
    ends = [[monitor, "at step", "time", "state"], *([*ending(s, monitor)] for s in shown)]
    for end, added in zip(ends, more_values(shown, monitor, several), strict=True):
        end[1:1] = added
    starts = [["job", *short_names(keys)]]
    for s in shown:
        name = f"{s.job.number}{'*' * (s.job.number in several.front)}"
        starts.append([name, *(s.job.swept.get(key, "") for key in keys)])
    lines = aligned([[*map(cut, a), *b] for a, b in zip(starts, ends, strict=True)], len(keys) + 1)
    if max(map(len, lines)) > width:
        lines = labelled(shown, [row[0] for row in starts], ends, width)
    head, *rows = lines
    for number, state in reversed(list(enumerate(shown))):
        if state.state == FAILED and state.reason:
            rows.insert(number + 1, SPACE + state.reason.splitlines()[0])
    more = len(begun) - len(shown)
    lines = [head, *rows, *([f"and {more:,} more"] if more else [])]
    if several.front:
        lines.append("* Pareto front: none is as good in all objectives and better in one")
    return [cut(line, width) for line in lines]


def more_values(shown: Sequence[JobState], monitor: str, several: Several) -> list[list[str]]:
    """The objectives that are not what is monitored: a head, then a row a job."""
    names = [name for name in several.names if name != monitor]
    rows = [names]
    for state in shown:
        found = dict(zip(several.names, several.values.get(state.job.number, ()), strict=False))
        rows.append([in_cell(name, found.get(name)) for name in names])
    return rows


def in_cell(name: str, value: float | None) -> str:
    """Counts, such as num_parameters, in full."""
    is_count = value is not None and value == round(value) and abs(value) >= 1000
    return f"{value:,.0f}" if is_count else shown(name, value)


def labelled(
    shown: Sequence[JobState], numbers: list[str], ends: list[list[str]], width: int
) -> list[str]:
    """All that varies in one column, cut to what is left; then time and step go."""
    labels = ["varies", *(label(state.job) for state in shown)]
    values, last = range(len(ends[0]) - 3), len(ends[0]) - 1
    for kept in (range(last + 1), (*values, last), values, (0,)):
        tails = aligned([[row[i] for i in kept] for row in ends], 0)
        room = width - len(tails[0]) - max(map(len, numbers)) - 2 * len(SPACE)
        if room >= MIN_LABEL:
            break
    rows = zip(numbers, labels, tails, strict=True)
    return aligned([[number, cut(text, max(0, room)), tail] for number, text, tail in rows], 2)


def ending(state: JobState, monitor: str) -> tuple[str, str, str, str]:
    step = "-" if state.best_step is None else f"{state.best_step:,}"
    time = "-" if state.seconds is None else clock(state.seconds)
    own = monitor_of(state)  # in a sweep over what is monitored, they cannot be compared
    value = shown(own, state.result) if own == monitor else f"{own} {shown(own, state.result)}"
    return value, step, time, state.state


def monitor_of(state: JobState) -> str:
    return str(state.job.config["checkpoint"]["monitor"])


def rank(state: JobState, mode: str) -> tuple[bool, float, int]:
    """Failed last, then without a result, then by value; equals by number."""
    sign = -1.0 if mode == "max" else 1.0
    value = math.inf if state.result is None else sign * state.result
    return state.state == FAILED, value, state.job.number


def aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Rows as lines: the first `left` columns begin together, the others end together."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    places = [
        [cell.ljust(w) if i < left else cell.rjust(w)
         for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]  # fmt: skip
    return [SPACE.join(row) for row in places]


def label(job: JobRecord) -> str:
    """What a job varies, in a line: `lr=0.1 seed=2`."""
    names = short_names(list(job.swept))
    text = " ".join(f"{k}={v}" for k, v in zip(names, job.swept.values(), strict=True))
    return printable(text) or "-"


def short_names(keys: Sequence[str]) -> list[str]:
    """The last part of each key; the whole where that would be said twice."""
    last = [key.rpartition(".")[2] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]


def shown(monitor: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2%}" if monitor.startswith("accuracy") else f"{value:.4g}"


def clock(seconds: float) -> str:
    """`0:07`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def cut(text: str, width: int = MAX_CELL) -> str:
    """What a stranger wrote steers no terminal."""
    text = printable(text)
    return text if len(text) <= width else text[: max(0, width - 1)] + "…" * (width > 0)
