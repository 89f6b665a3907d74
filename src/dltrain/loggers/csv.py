"""Every number of a run in one table, for a spreadsheet or `pandas.read_csv`."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dltrain.durable import naming

FILENAME = "metrics.csv"
FIRST_COLUMNS = ("step", "time")

Row = dict[str, str]


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
    """(columns, rows); a last line without its end, torn when the run was killed, is dropped."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    header, *table = list(csv.reader(lines)) or [list(FIRST_COLUMNS)]
    whole = [row for row in table if len(row) == len(header)]
    rows = [dict(zip(header, row, strict=True)) for row in whole]
    return header, [{name: value for name, value in row.items() if value} for row in rows]
