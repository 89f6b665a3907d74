"""Every number of a run in one table, for a spreadsheet or `pandas.read_csv`."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dltrain.durable import naming

FILENAME = "metrics.csv"
FIRST_COLUMNS = ("step", "time")
MAX_BYTES, MAX_COLUMNS = 1 << 28, 10_000  # of a table that anybody may have written

Row = dict[str, str]
log = logging.getLogger("dltrain")


class CSV:
    """Writes `metrics.csv`: one row a step, one column a metric, empty where nothing was measured.

    `time` is that of a step's first value, in seconds since 1970. A metric that appears for the
    first time adds a column: the file is then written anew beside its place and renamed.
    """

    def start(
        self,
        run_dir: Path,
        *,
        config: dict[str, Any],
        resume_step: int | None,
        state: dict[str, Any] | None,
    ) -> None:
        """Where a run goes on, the table becomes what it was at the checkpoint."""
        self._path = run_dir / FILENAME
        self._columns = list(FIRST_COLUMNS)
        self._row: Row = {}
        rows: list[Row] = []
        if resume_step and self._path.exists():
            self._columns, rows = _read(self._path)
            rows = [row for row in rows if int(row["step"]) <= resume_step]
        if resume_step and state:
            self._columns = list(state["columns"])
            self._row = dict(state["row"])
            rows = [row for row in rows if row["step"] != self._row.get("step")]
        elif rows:
            self._row = rows.pop()
        self._rewrite(rows)

    def log_scalars(self, step: int, scalars: dict[str, float], wall_time: float) -> None:
        values = {name: repr(float(value)) for name, value in scalars.items()}
        last = int(self._row.get("step", -1))
        if step > last:
            self._write_row()
            self._begin({"step": str(step), "time": f"{wall_time:.3f}"})
        new = [name for name in values if name not in self._columns]
        if step >= last and not new:
            self._row |= values
            self._is_written = False
        else:
            self._merge(step, values, new, wall_time)

    def log_images(self, step: int, name: str, images: Any, wall_time: float) -> None:
        """A table has no place for images."""

    def log_text(self, step: int, name: str, text: str, wall_time: float) -> None:
        """A table has no place for text."""

    def flush(self) -> None:
        with naming(self._path):
            self._write_row()
            self._file.flush()

    def sync(self) -> None:
        """Nothing: the table is a copy of what `metrics.jsonl` holds."""

    def state_dict(self) -> dict[str, Any]:
        return {"columns": list(self._columns), "row": dict(self._row)}

    def close(self, status: str, wall_time: float) -> None:
        self.flush()
        self._file.close()

    def _begin(self, row: Row) -> None:
        self._row, self._offset, self._is_written = row, self._file.tell(), False

    def _write_row(self) -> None:
        """Writes the last row, over itself where it is there already and has got more values."""
        if self._row and not self._is_written:
            self._file.seek(self._offset)
            self._file.truncate()
            self._file.write(_lines([[self._row.get(name, "") for name in self._columns]]))
            self._is_written = True

    def _merge(self, step: int, values: Row, new: list[str], wall_time: float) -> None:
        """The rare case: a new column, or values of an earlier step (the best weights' test)."""
        self.flush()
        _, rows = _read(self._path)
        by_step = {int(row["step"]): row for row in rows}
        by_step |= {int(last["step"]): last for last in [self._row] if last}
        row = by_step.setdefault(step, {"step": str(step), "time": f"{wall_time:.3f}"})
        row |= values
        self._columns += new
        self._file.close()
        *rows, self._row = [by_step[key] for key in sorted(by_step)]
        self._rewrite(rows)

    def _rewrite(self, rows: list[Row]) -> None:
        """Replaces the file by the header, `rows` and the last row, and goes on behind them."""
        table = [self._columns, *([row.get(name, "") for name in self._columns] for row in rows)]
        temporary = self._path.with_name(f".{FILENAME}.{os.getpid()}.tmp")
        text = _lines(table)
        with naming(self._path, len(text)):
            temporary.write_bytes(text)
        self._file = temporary.open("r+b")
        self._file.seek(0, os.SEEK_END)
        self._begin(self._row)
        self.flush()
        os.replace(temporary, self._path)


def _lines(rows: Iterable[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _read(path: Path) -> tuple[list[str], list[Row]]:
    """(columns, rows); a last line without its end, torn when the run was killed, is dropped.

    The table is a copy, and somebody may have saved it from a spreadsheet: rows that are none of
    ours are left out, and that is said.
    """
    if path.stat().st_size > MAX_BYTES:
        log.warning("%s has more than %d bytes and begins anew", path, MAX_BYTES)
        return list(FIRST_COLUMNS), []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    header, *table = list(_cells(lines)) or [list(FIRST_COLUMNS)]
    if header[:2] != list(FIRST_COLUMNS) or not len(set(header)) == len(header) <= MAX_COLUMNS:
        log.warning("%s has not the columns of a run and begins anew", path)
        return list(FIRST_COLUMNS), []
    rows = [dict(zip(header, row, strict=True)) for row in table if _is_ours(row, len(header))]
    if len(rows) < len(table):
        left_out = len(table) - len(rows)
        log.warning("%s: %d rows cannot be read and are left out", path, left_out)
    return header, [{name: value for name, value in row.items() if value} for row in rows]


def _cells(lines: list[str]) -> Iterator[list[str]]:
    """Of each line; none of one that is no CSV."""
    for line in lines:
        try:
            yield next(csv.reader([line]), [])
        except csv.Error:
            yield []


def _is_ours(row: list[str], num_columns: int) -> bool:
    return len(row) == num_columns and re.fullmatch("[0-9]{1,18}", row[0], re.ASCII) is not None
