"""The layout of a run's directory and its small files. Knows no torch.

Everything in a run's directory is found relative to it, so that runs can be moved and copied.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dltrain import plain
from dltrain.durable import (
    irregular,
    naming,
    remove,
    replace_text,
)
from dltrain.errors import UserError

CONFIG, SUMMARY, RECORD, LOG = "config.yaml", "summary.json", "run.json", "train.log"
METRICS, WEIGHTS, CHECKPOINTS, HYDRA = "metrics.jsonl", "model.safetensors", "checkpoints", ".hydra"
EVALUATION, EXPORT = "evaluation", "export"
DIGEST = "weights_sha256"  # of WEIGHTS, in SUMMARY; runs of before have none
SWEEP, JOBS = "sweep.json", "jobs.jsonl"  # of a sweep's directory; see `dltrain.sweeps.ledger`
OUTPUTS = "outputs"
log = logging.getLogger("dltrain")
MAX_RECORD_BYTES = 4 << 20  # a kilobyte for each time that the run went on
MAX_THREADS = 1024
MAX_LOOKED_AT = 10_000  # entries of folders, for a message: some 0.1 s
# Of metrics.jsonl, which anybody may have made: a run has a row a `trainer.log_every`
MAX_ROWS, MAX_ROWS_BYTES, MAX_ROW_BYTES = 500_000, 1 << 27, 1 << 16


def holds_run(path: Path) -> bool:
    return any((path / name).exists() for name in (CONFIG, SUMMARY, RECORD, CHECKPOINTS, METRICS))


def find_run(text: str) -> Path:
    """The directory of a run: a path, or `latest`, the one that started last below outputs/."""
    if text == "latest":
        starts = (path for path in Path(OUTPUTS).rglob(RECORD) if not irregular(path))
        runs = sorted(starts, key=lambda path: path.lstat().st_mtime)
        if not runs:
            raise UserError(f"there is no run below {OUTPUTS}/ yet: start one with `dltrain train`")
        return runs[-1].parent
    path = Path(text)
    if not text.strip() or len(os.fsencode(text)) > 3000 or not os.path.isdir(path):
        shown = text if len(text) <= 200 else f"{text[:197]}..."
        raise UserError(f"there is no directory `{shown}`")
    if (path / CONFIG).is_file():
        return path
    named = [name for name in (SWEEP, JOBS, "multirun.yaml") if (path / name).is_file()]
    if named and (SWEEP in named or any(path.glob(f"*/{CONFIG}"))):
        raise UserError(f"{text} is a sweep: name one of the runs in it, such as {text}/0_...")
    if named:
        raise UserError(f"{text}: a sweep that ended before it began; type its command again")
    raise UserError(f"{text} is not a run: it has no {CONFIG}{newest_below(path)}")


def newest_below(path: Path) -> str:
    """`; the newest run below it is ...`, for a message: of what is near, for it may be the root of
    a file server."""
    folders, newest, left = [path], (-math.inf, path), MAX_LOOKED_AT
    for folder in folders:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)[:left]
        except OSError:
            continue
        left -= len(entries)
        for entry in entries:
            if entry.name == RECORD and entry.is_file(follow_symlinks=False):
                newest = max(newest, (entry.stat(follow_symlinks=False).st_mtime, folder))
            elif entry.is_dir(follow_symlinks=False) and len(folders) < left:
                folders.append(Path(entry.path))
    run = newest[1]
    if run == path:
        return ""
    sweep = f", of the sweep {run.parent}" if (run.parent / SWEEP).is_file() else ""
    return f"\nthe newest run below it is {run}{sweep}"


def refuse_links(path: Path) -> None:
    """A run that goes on writes into its directory, and through a link would write elsewhere."""
    for entry in sorted([*path.iterdir(), *path.glob(f"{HYDRA}/*")]):
        kind = irregular(entry) or misplaced(entry)
        if kind:
            raise UserError(
                f"{entry} is {kind}; a run's directory holds files and folders of its own alone\n"
                "remove it, or put what it stands for in its place"
            )


def misplaced(path: Path) -> str | None:
    """A folder where a run has a file (all of these have an ending), or a file for a folder."""
    if path.name in (CHECKPOINTS, HYDRA, EVALUATION, EXPORT):
        return None if path.is_dir() else "a file"
    return "a folder" if path.suffix and path.is_dir() else None


def clear_leftovers(path: Path) -> None:
    """Removes files that a killed process had not finished; only under the run's lock."""
    for entry in [*path.glob(".*.tmp"), *path.glob(f"{HYDRA}/.*.tmp")]:
        remove(entry)


def write_json(path: Path, data: Any, *, sync: bool = True) -> None:
    """Replaces the file whole: a reader sees the old one or the new one."""
    replace_text(path, json.dumps(finite(data), indent=2, allow_nan=False) + "\n", sync=sync)


def finite(data: Any) -> Any:
    """The data with null for what is not finite: JSON has no NaN, and readers know null."""
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def read_json(path: Path) -> dict[str, Any]:
    """`run.json` or `summary.json`; {} where there is none. What is relied on has its type."""
    try:
        data = plain.read_json(path, MAX_RECORD_BYTES)
    except FileNotFoundError:
        return {}
    except plain.PLAIN_ERRORS as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from None
    data = data if isinstance(data, dict) else {}
    for name, is_right in RELIED_ON.items():
        if name in data and not is_right(data[name]):
            raise UserError(f"{path} cannot be read: its `{name}` is not what a run writes")
    return data


def reason(error: BaseException) -> str:
    """In one line, whatever the file held."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return plain.printable(text)[:300]


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def is_record(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("versions", {}), dict)


# What the program takes from a run's small files, and what it must be: anybody may have made them
RELIED_ON: dict[str, Callable[[Any], bool]] = {
    "status": lambda value: isinstance(value, str),
    "step": is_count,
    "checkpoint": lambda value: value is None or is_count(value),
    DIGEST: lambda value: value is None or isinstance(value, str),
    "best": lambda value: value is None or isinstance(value, dict),
    "threads": lambda value: is_count(value) and 1 <= value <= MAX_THREADS,
    "choices": lambda value: isinstance(value, dict),
    "versions": lambda value: isinstance(value, dict),
    "resumed": lambda value: isinstance(value, list) and all(map(is_record, value)),
}


def read_if_whole(path: Path) -> dict[str, Any]:
    """`read_json`, for what a run can go on without: a damaged file is said, and like none."""
    try:
        return read_json(path)
    except UserError as error:
        log.warning("%s; the run goes on without it", error)
        return {}


def read_config(path: Path) -> dict[str, Any]:
    """`config.yaml` of a run as plain data: no tags, no aliases, no link, bounded in size."""
    file = path / CONFIG
    try:
        data = plain.read_yaml(file)
    except plain.PLAIN_ERRORS as error:
        raise UserError(f"{file} cannot be read: {reason(error)}") from None
    if not isinstance(data, dict):
        raise UserError(f"{file} is not a mapping; it is no config of a run")
    return data


def read_rows(run_dir: Path) -> Iterator[dict[str, Any]]:
    """The rows of `metrics.jsonl` in their order, line by line; none where there is no such file.

    What is no row is left out, as the torn last line of a killed run. Raises UserError for a file
    that is none (a link, a pipe), and behind MAX_ROWS lines or MAX_ROWS_BYTES of one.
    """
    path = run_dir / METRICS
    try:
        with plain.open_regular(path) as file:
            yield from parse_rows(file, path)
    except FileNotFoundError:
        return
    except (OSError, plain.PlainError) as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from None


def parse_rows(file: BinaryIO, path: Path) -> Iterator[dict[str, Any]]:
    lines = num_bytes = 0
    while line := file.readline(MAX_ROW_BYTES):
        lines, num_bytes = lines + 1, num_bytes + len(line)
        if lines > MAX_ROWS or num_bytes > MAX_ROWS_BYTES:
            raise UserError(
                f"{path} has more than {MAX_ROWS:,} rows or {MAX_ROWS_BYTES:,} bytes, "
                "which is what is read of a run"
            )
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row


# What each row has beside its numbers
HEAD: tuple[tuple[str, Callable[[Any], bool]], ...] = (
    ("step", is_count),
    ("split", lambda value: value in ("train", "val", "test")),
    ("time", lambda value: isinstance(value, int | float) and 0 <= value < 1 << 40),
)


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line, appended, and cut back when a run goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, offset: int = 0) -> None:
        """Opens the file, cut back to its first `offset` bytes."""
        self.file = open(self.path, "a+b")  # noqa: SIM115  # open for as long as the run is
        size = self.file.seek(0, os.SEEK_END)
        if size < offset:
            log.warning(
                "%s has lost %d bytes; the run goes on without them", self.path, offset - size
            )
            self.file.seek(0)
            offset = self.file.read().rfind(b"\n") + 1  # a torn line would spoil the next
        self.file.truncate(offset)
        self.file.seek(0, os.SEEK_END)

    def append(self, row: dict[str, Any]) -> None:
        line = json.dumps(finite(row), allow_nan=False).encode() + b"\n"
        with naming(self.path, len(line)):
            self.file.write(line)
            self.file.flush()  # 5 us: what was logged survives a SIGKILL

    def rows(self) -> Iterator[dict[str, Any]]:
        """What it holds of before; somebody else may have written it."""
        self.file.seek(0)
        try:
            for row in parse_rows(self.file, self.path):
                if all(is_right(row.get(key)) for key, is_right in HEAD):
                    yield row
        except UserError as error:
            log.warning("%s", error)
        finally:
            self.file.seek(0, os.SEEK_END)

    def sync(self) -> None:
        """Makes durable what was appended."""
        with naming(self.path):
            os.fsync(self.file.fileno())

    def offset(self) -> int:
        return self.file.tell()

    def close(self) -> None:
        self.file.close()


class Summary:
    """`summary.json`, rewritten whole at every change; durable where a run ends."""

    def __init__(self, path: Path, *, every_sec: float = 0.0) -> None:
        """every_sec: while it runs, at most so often; many at once would wait for each other."""
        self.path, self.every_sec = path, every_sec
        self.saved_at = -math.inf
        self.data: dict[str, Any] = {}

    def save(self, **changes: Any) -> None:
        now = time.monotonic()
        is_running = changes.get("status") == self.data.get("status") == "running"
        self.data |= changes
        if is_running and now - self.saved_at < self.every_sec:
            return
        self.saved_at = now
        write_json(self.path, self.data, sync=self.data["status"] != "running")
