"""The layout of a run's directory and its small files. Knows no torch.

Everything in a run's directory is found relative to it, so that runs can be moved and copied.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from dltrain.errors import StorageError, UserError

CONFIG, SUMMARY, RECORD, LOG = "config.yaml", "summary.json", "run.json", "train.log"
METRICS, WEIGHTS, CHECKPOINTS, HYDRA = "metrics.jsonl", "model.safetensors", "checkpoints", ".hydra"
OUTPUTS = "outputs"
MAX_CONFIG_BYTES = 1 << 20


def holds_run(path: Path) -> bool:
    return any((path / name).exists() for name in (CONFIG, SUMMARY, RECORD, CHECKPOINTS, METRICS))


class Claim:
    """A run's directory, made if need be and locked for as long as this is open.

    The lock is on the directory itself, so that claiming writes nothing into it. Leaving by an
    error removes the directories that were made for it, if they are still empty.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self.path, self.fresh = path, fresh  # fresh: where the name is taken, it gets a suffix
        self.made: list[Path] = []
        self.descriptor: int | None = None

    def make(self) -> None:
        for parent in reversed([p for p in self.path.parents if not p.exists()]):
            parent.mkdir(exist_ok=True)
            self.made.append(parent)
        name, number = self.path.name, 2
        while self.fresh and self.path.exists():
            self.path, number = self.path.with_name(f"{name}_{number}"), number + 1
        try:
            self.path.mkdir(exist_ok=False)
            self.made.append(self.path)
        except FileExistsError:
            if self.fresh:  # somebody else was faster
                self.make()
            elif not self.path.is_dir():
                raise NotADirectoryError(20, "it is a file") from None

    def __enter__(self) -> Claim:
        try:
            self.make()
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            self.release()
            raise UserError(
                f"the run's directory {self.path} cannot be used: {error.strerror}"
            ) from None
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise UserError(f"{self.path} is in use by another dltrain process") from None
        except OSError:
            pass  # a file system without locks: nothing to hold, and no reason not to train
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        for path in reversed(self.made):
            try:
                path.rmdir()
            except OSError:
                break  # not empty: it has become a run
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def find_run(text: str) -> Path:
    """The directory of a run: a path, or `latest`, the one that started last below outputs/."""
    if text == "latest":
        starts = Path(OUTPUTS).rglob(RECORD)
        runs = sorted(starts, key=lambda path: path.stat().st_mtime)
        if not runs:
            raise UserError(f"there is no run below {OUTPUTS}/ yet: start one with `dltrain train`")
        return runs[-1].parent
    path = Path(text)
    if not path.is_dir():
        raise UserError(f"there is no directory {text}")
    if (path / "multirun.yaml").is_file():
        raise UserError(f"{text} is a sweep: name one of the runs in it, such as {text}/0_...")
    if not (path / CONFIG).is_file():
        raise UserError(f"{text} is not a run: it has no {CONFIG}")
    return path


def write_json(path: Path, data: Any) -> None:
    """Replaces the file whole: a reader sees the old one or the new one."""
    write_text(path, json.dumps(finite(data), indent=2, allow_nan=False) + "\n")


def finite(data: Any) -> Any:
    """The data with null for what is not finite: JSON has no NaN, and readers know null."""
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)  # a full disk leaves no half of a file behind
        raise


def read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    return data if isinstance(data, dict) else {}


def read_config(path: Path) -> dict[str, Any]:
    """`config.yaml` of a run as plain data: no tags, no interpolations, bounded in size."""
    file = path / CONFIG
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise UserError(
                f"{file} has more than {MAX_CONFIG_BYTES} bytes; it is no config of a run"
            )
        data = yaml.load(file.read_text(encoding="utf-8"), Loader=PlainLoader)
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(data, dict):
        raise UserError(f"{file} is not a mapping; it is no config of a run")
    return data


class PlainLoader(yaml.SafeLoader):
    """YAML without anchors, which can make a small file huge; numbers such as 1e-3 are numbers."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias, which no run writes")
        return super().compose_node(parent, index)


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line, appended, and cut back when a run goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, offset: int = 0) -> None:
        """Opens the file, cut back to its first `offset` bytes."""
        self.file = open(self.path, "ab")  # noqa: SIM115  # open for as long as the run is
        size = self.file.seek(0, os.SEEK_END)
        self.file.truncate(min(offset, size))  # never longer: after a power cut there may be less
        self.file.seek(0, os.SEEK_END)

    def append(self, row: dict[str, Any]) -> None:
        self.file.write(json.dumps(finite(row), allow_nan=False).encode() + b"\n")
        self.file.flush()  # 5 us: what was logged survives a SIGKILL

    def sync(self) -> None:
        """Makes durable what was appended."""
        os.fsync(self.file.fileno())

    def offset(self) -> int:
        return self.file.tell()

    def close(self) -> None:
        self.file.close()


class Summary:
    """`summary.json`, rewritten whole at every change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data: dict[str, Any] = {}

    def save(self, **changes: Any) -> None:
        self.data |= changes
        write_json(self.path, self.data)


def storage_error(error: OSError) -> StorageError:
    """What to say when a disk is full, over quota or read-only."""
    where = f" ({error.filename})" if error.filename else ""
    return StorageError(f"cannot write{where}: {error.strerror or error}")
