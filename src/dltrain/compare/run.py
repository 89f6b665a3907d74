"""One run as it is compared: its status, settings and results, read as data and kept small."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltrain import runs
from dltrain.claim import is_held
from dltrain.errors import UserError

Value = bool | int | float | str | None

STATUSES = ("completed", "interrupted", "stopped", "failed", "running")
NOT_COMPARED = ("damaged", "foreign")
# Of a run that anybody may have made; hundreds of them are held at once
MAX_SETTINGS, MAX_METRICS = 2_000, 500
MAX_KEY, MAX_TEXT = 200, 200  # characters
LARGEST = 1e100  # of numbers: float32 ends at 3e38, and a stranger's may not overflow in a mean


@dataclass
class Run:
    """`status` is what `summary.json` says, or `killed` (it says `running`, and nobody holds the
    directory), `damaged` or `foreign`; `reason` is why it is one of the last two."""

    path: Path
    status: str
    reason: str = ""
    name: str = ""
    settings: dict[str, Value] = field(default_factory=dict)
    best: tuple[str, float] | None = None  # the monitored metric and its value
    last: dict[str, float] = field(default_factory=dict)  # by `accuracy/val`; test metrics too
    numbers: dict[str, float] = field(default_factory=dict)  # step, wall_time_sec, ...
    groups: tuple[str, ...] = ()  # of the config
    data: str = ""  # a digest of what it has read; of runs found together, one for each data

    @property
    def is_compared(self) -> bool:
        return self.status not in NOT_COMPARED


NUMBERS = ("step", "epoch", "wall_time_sec", "samples_per_sec", "data_share", "num_parameters")


def read_run(path: Path) -> Run:
    """Whatever the directory holds; config.yaml, run.json and summary.json are all that is read."""
    try:
        if not (path / runs.CONFIG).exists() and not (path / runs.CONFIG).is_symlink():
            return without_config(path)
        config = runs.read_config(path)
        if not is_ours(config):
            return Run(path, "foreign", f"its {runs.CONFIG} is not that of a run")
        record = record_of(path)
        settings = flatten(config) | chosen(record, config)
        summary = runs.read_json(path / runs.SUMMARY)
        status = status_of(path, summary)
    except UserError as error:
        return Run(path, "damaged", str(error).removeprefix(f"{path}/"))
    best = summary.get("best") or {}
    monitor, value = best.get("monitor"), number(best.get("value"))
    known = isinstance(monitor, str) and len(monitor) <= MAX_KEY and value is not None
    test = metrics(summary.get("test"))
    return Run(
        path,
        status,
        settings=settings,
        best=(str(monitor), value) if known and value is not None else None,
        last=metrics(summary.get("last")) | {f"{name}/test": v for name, v in test.items()},
        numbers={n: v for n in NUMBERS if (v := number(summary.get(n))) is not None},
        groups=tuple(str(key) for key, value in config.items() if isinstance(value, dict)),
        data=digest(record["data"]) if record.get("data") else "",
    )


def without_config(path: Path) -> Run:
    if runs.holds_run(path):
        return Run(path, "damaged", f"it has no {runs.CONFIG}")
    return Run(path, "foreign", "it holds no run")


def is_ours(config: dict[str, Any]) -> bool:
    """Other programs have a config.yaml too."""
    return all(isinstance(config.get(name), dict) for name in ("dataset", "model", "trainer"))


def status_of(path: Path, summary: dict[str, Any]) -> str:
    """Raises UserError where the summary says what no run says."""
    status = summary.get("status", "running")  # none yet, or none any more
    if status not in STATUSES:
        raise UserError(f"{runs.SUMMARY} has a status that no run has: {status[:40]!r}")
    return "killed" if status == "running" and not is_held(path) else str(status)


def number(value: Any) -> float | None:
    """A number that can come out of a training, as it is; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if abs(float(value)) <= LARGEST else None  # nor is a NaN
    except OverflowError:  # an int of hundreds of digits
        return None


def metrics(data: Any) -> dict[str, float]:
    """Names and finite numbers of what should be such a mapping."""
    pairs = list(data.items())[:MAX_METRICS] if isinstance(data, dict) else []
    return {k: n for k, v in pairs if len(k) <= MAX_KEY and (n := number(v)) is not None}


# ---------------------------------------------------------------------- settings


def flatten(config: dict[str, Any]) -> dict[str, Value]:
    """Dotted keys with scalars; lists are text: `[256,256]`. Raises UserError for too many."""
    found: dict[str, Value] = {}
    todo = [(str(key), value) for key, value in reversed(config.items())]
    while todo:
        key, value = todo.pop()
        if isinstance(value, dict):
            todo += [(f"{key}.{name}", inner) for name, inner in reversed(value.items())]
        else:
            found[key] = scalar(value)
        if len(key) > MAX_KEY or len(found) > MAX_SETTINGS:
            raise UserError(
                f"{runs.CONFIG} has more than {MAX_SETTINGS:,} settings, "
                f"or one whose name has more than {MAX_KEY} characters"
            )
    return found


def scalar(value: Any) -> Value:
    if value is None or isinstance(value, bool) or number(value) is not None:
        return value
    return shortened(value if isinstance(value, str) else text_of(value))


def text_of(value: Any) -> str:
    """On one line: as it would be typed for a list of scalars, and as JSON for deeper ones."""
    if isinstance(value, list) and not any(isinstance(each, list | dict) for each in value):
        return "[" + ",".join(map(text_of, value)) + "]"
    if value is None or isinstance(value, bool | list | dict):
        return json.dumps(value, default=str, separators=(",", ":"), ensure_ascii=False)
    return str(value)


def shortened(text: str) -> str:
    """At most MAX_TEXT characters; a digest keeps apart what begins alike."""
    if len(text) <= MAX_TEXT:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{text[: MAX_TEXT - 12]}...{digest}"


def record_of(path: Path) -> dict[str, Any]:
    """`run.json`, which says more of a run than it needs here; {} where it is damaged."""
    try:
        return runs.read_json(path / runs.RECORD)
    except UserError:
        return {}


def chosen(record: dict[str, Any], config: dict[str, Any]) -> dict[str, Value]:
    """`{"model": "mlp"}`: which config was chosen in each group, as run.json has it."""
    choices = record.get("choices", {})
    groups = {group: name for group, name in choices.items() if isinstance(config.get(group), dict)}
    return {group: scalar(name) for group, name in groups.items() if isinstance(name, str | list)}


def digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
