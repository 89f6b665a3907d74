"""The lines of `jobs.jsonl`: what each may hold and how much of it, whoever wrote them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dltrain import plain, runs
from dltrain.errors import UserError

MAX_JOBS = 100_000  # of a sweep
MAX_LINE_BYTES = 4 << 20
MAX_RECORDED_BYTES = 1 << 30  # all jobs: 10 KB each, of the greatest number
MAX_BYTES = MAX_RECORDED_BYTES + (1 << 28)  # with what became of them
MAX_EVENTS = 50  # of a job, the newest: nobody asks for more
MAX_REASON = 4000  # characters
MAX_NAME_BYTES = 255  # of a folder, on most file systems
# Of a line of ours; one that cannot be read is torn: its writer was killed
_BEGINNINGS = (b'{"job": {"number": ', b'{"number": ')
_EVENT = ("number", "state", "time", "reason", "exit_code", "result", "engine", "id", "place")
_KINDS: dict[str, type] = {
    "number": int, "overrides": list, "swept": dict, "directory": str, "config": dict,
    "choices": dict, "hydra_files": dict,
}  # fmt: skip


def read_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """(number of the line, what it holds); what a kill or the power has torn is left out.

    Raises UserError for what else cannot be read, and for more than a sweep writes.
    """
    if not os.path.lexists(path):
        return
    try:
        with plain.open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise plain.PlainError(f"it has more than {MAX_BYTES:,} bytes")
            place = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                place += 1
                data = _parsed(line, place)
                if data is not None:
                    yield place, data
    except plain.PLAIN_ERRORS as error:
        raise UserError(f"{path} cannot be read: {runs.reason(error)}") from None


def _parsed(line: bytes, place: int) -> Any:
    """None for one that is torn."""
    if len(line) > MAX_LINE_BYTES:
        raise plain.PlainError(f"line {place} has more than {MAX_LINE_BYTES:,} bytes")
    try:
        return plain.parse_json(line.decode("utf-8"))
    except plain.PlainError as error:
        if line.endswith(b"\n"):
            raise plain.PlainError(f"line {place}: {error}") from None
    except (ValueError, RecursionError):
        if not _is_torn(line):
            raise plain.PlainError(f"line {place} is damaged") from None
    return None


def _is_torn(line: bytes) -> bool:
    """One without an end, whatever it holds; or one of which only a beginning was written, and
    zeros where the power went."""
    left = line.rstrip(b"\0\r\n ")
    return not line.endswith(b"\n") or any(
        left.startswith(each) or each.startswith(left) for each in _BEGINNINGS
    )


def mend_end(file: BinaryIO) -> None:
    """Cuts off a torn last line, or what is appended would become part of it."""
    size = end = file.seek(0, os.SEEK_END)
    tail = b""
    while end and b"\n" not in tail:
        start = max(0, end - (1 << 16))
        file.seek(start)
        tail = file.read(end - start)
        end = start
    end += tail.rfind(b"\n") + 1
    if end == size:
        return
    file.seek(end)
    try:
        json.loads(file.read(MAX_LINE_BYTES))
    except (ValueError, RecursionError):
        file.truncate(end)
    else:
        file.write(b"\n")  # all of it is there


def written(job: dict[str, Any]) -> str:
    """The line of a job. Raises UserError for one that could not be read again."""
    line = json.dumps({"job": runs.finite(job)}, allow_nan=False) + "\n"
    too_long = len(line) > MAX_LINE_BYTES
    if too_long or plain.count_values(line) > plain.MAX_VALUES:
        size = f"{len(line):,} bytes" if too_long else "too many values"
        most = f"{MAX_LINE_BYTES:,}" if too_long else f"{plain.MAX_VALUES:,}"
        raise UserError(
            f"job {job['number']} takes {size} to record, and may take {most}; make its config "
            "shorter: a long list of values belongs into a file that the config names"
        )
    return line


# ---------------------------------------------------------------------- what a line holds


def event_of(data: dict[str, Any]) -> dict[str, Any]:
    """What is known of events, and no more of a line than that."""
    found = {key: data[key] for key in _EVENT if isinstance(data.get(key), str | int | float)}
    return {k: v[:MAX_REASON] if isinstance(v, str) else v for k, v in found.items()}


def check_job(data: Any, where: str) -> None:
    """Raises UserError for what is no record of a job; its config is checked when it is to run."""
    right = isinstance(data, dict) and data.keys() == _KINDS.keys()
    if not right or not all(isinstance(data[name], kind) for name, kind in _KINDS.items()):
        raise UserError(f"{where} is not the record of a job")
    if wrong := directory_problem(data["directory"]):
        shown = plain.printable(data["directory"][:100])
        raise UserError(f"{where}: `{shown}` is no folder of a job: {wrong}")
    texts = [*data["overrides"], *data["swept"].values(), *data["hydra_files"].values()]
    choices = [each for value in data["choices"].values()
               for each in (value if isinstance(value, list) else [value])]  # fmt: skip
    if (
        not runs.is_count(data["number"])
        or not all(isinstance(text, str) for text in texts)
        or any(isinstance(each, list | dict) for each in choices)
        or any(directory_problem(name) for name in data["hydra_files"])
        or not _has_what_is_shown(data["config"])
    ):
        raise UserError(f"{where} is not the record of a job")


def directory_problem(name: str) -> str | None:
    """Why it cannot be the name of a folder or a file in the sweep's own; None where it can."""
    if "/" in name or name in ("", ".", ".."):
        return "it must be one name"
    if not name.isprintable():
        return "it must be printable text"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"it must have at most {MAX_NAME_BYTES} bytes"
    return None


def _has_what_is_shown(config: dict[str, Any]) -> bool:
    """What is read of all jobs, those that are over and never checked among them."""
    checkpoint, trainer = config.get("checkpoint"), config.get("trainer")
    if not isinstance(checkpoint, dict) or not isinstance(trainer, dict):
        return False
    texts = [checkpoint.get("monitor"), checkpoint.get("mode"), trainer.get("device")]
    return all(isinstance(text, str) for text in texts) and "threads" in trainer
