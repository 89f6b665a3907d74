"""A table as text for the screen, as wide as it is; Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import textwrap
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dltrain import spreadsheet
from dltrain.compare.columns import RUN, STATUS, Column, duration, percent, whole
from dltrain.compare.find import as_text, numbered
from dltrain.compare.table import Cell, Stat, Table
from dltrain.runs import finite

GAP = 2
LEAST_SETTING, SOME_NAME, LEAST_NAME = 16, 24, 12  # columns down to which these are cut
MISSING = "-"


def shown(column: Column, cell: Cell) -> str:
    """One line that steers no terminal, whatever a run holds."""
    if cell is None or cell == "":
        return MISSING
    if isinstance(cell, Stat):
        return with_spread(column, cell)
    return printable(column.show(cell))


def with_spread(column: Column, cell: Stat) -> str:
    """A mean over fewer runs than the group has says so: `n` is that of the group."""
    few = f" (n={cell.n})" if cell.n < cell.of else ""
    if cell.std is None or column.show in (duration, whole):
        return column.show(cell.mean) + few
    if column.show is percent:
        return f"{cell.mean:.2%} ± {100 * cell.std:.2f}{few}"
    return f"{cell.mean:.4g} ± {cell.std:.2g}{few}"


def printable(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def columns_of(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    kinds = [unicodedata.east_asian_width(c) for c in text if not unicodedata.combining(c)]
    return sum(2 if kind in "WF" else 1 for kind in kinds)


def cut(text: str, most: int) -> str:
    """Without its middle: runs' names begin with their number, and end with what they vary."""
    if columns_of(text) <= most:
        return text
    if columns_of(text) > len(text):
        most = max(1, most // 2)  # as if all were wide: exact would be a page
    tail = 2 * (most - 1) // 3
    return text[: most - 1 - tail] + "…" + text[len(text) - tail :]


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns, of one character at least."""
    wide = 2 if columns_of(text) > len(text) else 1
    return textwrap.wrap(text, max(1, width // wide))


def padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - columns_of(text))
    return space + text if right else text + space


# ---------------------------------------------------------------------- the screen


def to_screen(table: Table, width: int) -> str:
    """Columns beside one another if they fit: jobs are called by their numbers, other names are
    cut, then what may go goes, and is named, then headings are folded; else one block of lines a
    row."""
    cells = [
        [shown(c, cell) for c, cell in zip(table.columns, row, strict=True)] for row in table.rows
    ]
    whole = table, cells
    kept = list(range(len(table.columns)))
    left_out: list[str] = []
    limits = [10**6] * len(kept)
    while (over := excess(table, cells, kept, limits, width)) > 0:
        if cells is whole[1] and table.may_shrink:
            cells = with_numbers(table, cells)
            continue
        if shrink(table, cells, kept, limits, over, SOME_NAME):
            continue
        going = [i for i in kept if may_go(table, cells, i)]
        if going:
            first = min(going, key=lambda i: table.columns[i].may_go)
            kept.remove(first)
            left_out.append(table.columns[first].name)
        elif table is whole[0]:
            table = replace(table, columns=[folded(column) for column in table.columns])
        elif not shrink(table, cells, kept, limits, over, LEAST_NAME):
            return as_blocks(*whole, width)
    text = as_columns(table, cells, kept, limits)
    if left_out:
        more = f"not shown: {', '.join(left_out)} (a wider terminal, or --columns)"
        text += "\n" + "\n".join(wrapped(more, width)) + "\n"
    return text


def folded(column: Column) -> Column:
    """A setting's name in two lines, `hidden_` above `sizes`: its values are often shorter."""
    name = column.heading[0]
    breaks = [at + 1 for at, c in enumerate(name[:-1]) if c in "_." and at]
    if not column.is_setting or not breaks:
        return column
    at = min(breaks, key=lambda place: abs(2 * place - len(name)))
    return replace(column, heading=(name[:at], name[at:]))


def with_numbers(table: Table, cells: list[list[str]]) -> list[list[str]]:
    """Jobs under their numbers where these tell the rows apart: what a job's name says beside its
    number stands in the columns."""
    at = next((i for i, column in enumerate(table.columns) if column is RUN), None)
    if at is None:
        return [*cells]
    names = [numbered(row[at]) or row[at] for row in cells]
    if len(set(names)) < len(names):
        return [*cells]
    return [[*row[:at], name, *row[at + 1 :]] for row, name in zip(cells, names, strict=True)]


def widths(table: Table, cells: list[list[str]], kept: list[int], limits: list[int]) -> list[int]:
    headings = {i: max(map(columns_of, map(printable, table.columns[i].heading))) for i in kept}
    longest = {i: max([columns_of(row[i]) for row in cells] or [1]) for i in kept}
    return [max(headings[i], min(longest[i], limits[i])) for i in kept]


def excess(
    table: Table, cells: list[list[str]], kept: list[int], limits: list[int], width: int
) -> int:
    return sum(widths(table, cells, kept, limits)) + GAP * (len(kept) - 1) - width


def shrink(
    table: Table, cells: list[list[str]], kept: list[int], limits: list[int], over: int, name: int
) -> bool:
    """Cuts the longest setting, or the names of the runs down to `name`; False where all are."""
    now = dict(zip(kept, widths(table, cells, kept, limits), strict=True))
    least = {i: LEAST_SETTING for i in kept if table.columns[i].is_setting}
    least |= {i: name for i in kept if table.columns[i] is RUN}
    long = [i for i in least if min(limits[i], now[i]) > least[i]]
    if not long:
        return False
    longest = max(long, key=lambda i: (table.columns[i].is_setting, now[i]))
    limits[longest] = max(least[longest], now[longest] - over)
    return True


def may_go(table: Table, cells: list[list[str]], index: int) -> bool:
    column = table.columns[index]
    if not table.may_shrink or not column.may_go:
        return False
    return column is not STATUS or len({row[index] for row in cells}) == 1


def as_columns(table: Table, cells: list[list[str]], kept: list[int], limits: list[int]) -> str:
    sizes = widths(table, cells, kept, limits)
    right = [is_number_column(table, i) for i in kept]
    height = max(len(table.columns[i].heading) for i in kept)
    headings = [
        (*[""] * (height - len(table.columns[i].heading)), *table.columns[i].heading) for i in kept
    ]
    lines = [[printable(heading[at]) for heading in headings] for at in range(height)]
    lines += [[cut(row[i], size) for i, size in zip(kept, sizes, strict=True)] for row in cells]
    text = [(" " * GAP).join(map(padded, line, sizes, right)).rstrip() for line in lines]
    return "\n".join([*text[:height], "-" * max(map(columns_of, text)), *text[height:]]) + "\n"


def is_number_column(table: Table, index: int) -> bool:
    values = [row[index] for row in table.rows if row[index] is not None]
    return bool(values) and all(
        isinstance(value, int | float | Stat) and not isinstance(value, bool) for value in values
    )


def as_blocks(table: Table, cells: list[list[str]], width: int) -> str:
    """For a terminal that is too narrow, or too many columns: `name  value` below one another."""
    titles = [printable(column.title) for column in table.columns]
    column = max(map(columns_of, titles)) + GAP
    values = [i for i, each in enumerate(table.columns) if each is not RUN]
    fits = all(column + columns_of(row[i]) <= width for row in cells for i in values)
    lines: list[str] = []
    for row in cells:
        lines += [""] * bool(lines)
        for index, (title, text) in enumerate(zip(titles, row, strict=True)):
            if table.columns[index] is RUN:
                lines += wrapped(text, width) or [MISSING]
                continue
            if fits:
                lines.append(padded(title, column, False) + text)
            else:
                lines += wrapped(f"{title}: {text}", width)
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------- files


def to_markdown(table: Table) -> str:
    cells = [
        [markdown(shown(c, cell)) for c, cell in zip(table.columns, row, strict=True)]
        for row in table.rows
    ]
    right = [is_number_column(table, i) for i in range(len(table.columns))]
    lines = [[markdown(c.title) for c in table.columns]]
    lines += [["--:" if each else ":--" for each in right], *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def markdown(text: str) -> str:
    """Neither a cell's end nor a tag, a link or emphasis."""
    return "".join(f"\\{c}" if c in "\\|<>[]*_`" else c for c in printable(text))


def records(table: Table) -> list[dict[str, Any]]:
    """One flat mapping a row, with all digits and the run's path; a mean has its deviation beside
    it, and its n where that is not the group's."""
    result = []
    has_spread = {i for row in table.rows for i, cell in enumerate(row) if isinstance(cell, Stat)}
    has_n = {i for row in table.rows for i in has_spread if not is_of_all(row[i])}
    names = {column.name for column in table.columns}
    for at, row in enumerate(table.rows):
        record: dict[str, Any] = {}
        for index, (column, cell) in enumerate(zip(table.columns, row, strict=True)):
            if index in has_spread:
                each = cell if isinstance(cell, Stat) else None
                record[f"{column.name} mean"] = each and each.mean
                record[f"{column.name} std"] = each and each.std
                if index in has_n:
                    record[f"{column.name} n"] = each.n if each else 0
            else:
                record[column.name] = cell
        if has_spread and "n" not in names:
            record["n"] = len(table.groups[at].runs)
        if table.may_shrink and not has_spread and "path" not in names:
            record["path"] = as_text(str(table.groups[at].runs[0].path))
        result.append(record)
    return result


def is_of_all(cell: Cell) -> bool:
    return isinstance(cell, Stat) and cell.n == cell.of


def to_json(table: Table) -> str:
    return json.dumps(finite(records(table)), indent=1, allow_nan=False) + "\n"


def to_csv(table: Table) -> str:
    rows = records(table)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = list(rows[0]) if rows else [column.name for column in table.columns]
    writer.writerow([no_formula(name) for name in names])
    writer.writerows([[no_formula(value) for value in row.values()] for row in rows])
    return file.getvalue()


def no_formula(value: Cell) -> Cell:
    """Text that a spreadsheet would run (`=HYPERLINK(...)`) gets an apostrophe before it; and it
    may be printed to a terminal."""
    return spreadsheet.no_formula(printable(value)) if isinstance(value, str) else value


FORMATS: dict[str, Callable[[Table], str]] = {
    "markdown": to_markdown,
    "csv": to_csv,
    "json": to_json,
}


def render(table: Table, kind: str, width: int) -> str:
    return to_screen(table, width) if kind == "table" else FORMATS[kind](table)
