"""Where numbers go: `metrics.jsonl`, the loggers, the callbacks that show them, the summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class MetricsLog(Protocol):
    """An append-only file of rows; see `dltrain.runs`."""

    def append(self, row: dict[str, Any]) -> None: ...
    def offset(self) -> int: ...
    def rows(self) -> Iterator[dict[str, Any]]: ...


class Logger(Protocol):
    """Where scalars, images and text can go; see `dltrain.loggers`."""

    def log_scalars(self, step: int, scalars: dict[str, float], wall_time: float) -> None: ...
    def flush(self) -> None: ...
    def sync(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def close(self, status: str, wall_time: float) -> None: ...


# Row keys that are not metrics of a split, and the names under which loggers show them
PLAIN_NAMES = {
    "lr": "optim/lr",
    "grad_norm": "optim/grad_norm",
    "skipped": "optim/skipped_steps",
    "samples_per_sec": "time/samples_per_sec",
    "data_share": "time/data",
}

HEAD = ("step", "epoch", "split", "time")


def scalars_of(row: dict[str, Any]) -> dict[str, float]:
    """A row's numbers by the names under which loggers show them."""
    return {
        PLAIN_NAMES.get(name, f"{name}/{row['split']}"): value
        for name, value in row.items()
        if name not in HEAD and isinstance(value, int | float)
    }


class Recorder:
    """Writes each row once, everywhere."""

    def __init__(self, metrics_log: MetricsLog, loggers: dict[str, Logger]) -> None:
        self.metrics_log, self.loggers = metrics_log, loggers
        self.observers: list[Callable[[Any, dict[str, Any]], None]] = []
        self.last: dict[str, dict[str, float]] = {}  # the newest metrics of each split

    def row(self, trainer: Any, split: str, metrics: dict[str, float], **extra: float) -> None:
        now = time.time()
        self.last[split] = metrics
        row = {"step": trainer.step, "epoch": trainer.epoch, "split": split, "time": now}
        values = metrics | extra
        self.metrics_log.append(row | values)
        scalars = scalars_of(row | values)
        for logger in self.loggers.values():
            logger.log_scalars(trainer.step, scalars, now)
        for observer in self.observers:
            observer(trainer, row | values)

    def log_again(self) -> None:
        """Of a run that goes on: all rows so far, for loggers that may not have had some of them
        when it was killed; those that they have they leave out."""
        takers: list[Any] = [each for each in self.loggers.values() if hasattr(each, "log_again")]
        if takers:
            rows = [(row["step"], scalars_of(row), row["time"]) for row in self.metrics_log.rows()]
            for logger in takers:
                logger.log_again(rows)

    def takes(self, method: str) -> bool:
        """Whether any logger has `method`: what nobody takes need not be made."""
        return any(hasattr(logger, method) for logger in self.loggers.values())

    def show(self, method: str, *arguments: Any) -> None:
        """Calls `method` of the loggers that have it: pictures, PR curves, histograms, a graph."""
        for logger in self.loggers.values():
            if hasattr(logger, method):
                getattr(logger, method)(*arguments)

    def flush(self) -> None:
        for logger in self.loggers.values():
            logger.flush()

    def close(self, status: str) -> None:
        now = time.time()
        for logger in self.loggers.values():
            logger.close(status, now)

    def state_dict(self) -> dict[str, Any]:
        """How much of each log belongs to the checkpoint that holds this."""
        self.flush()
        return {
            "offset": self.metrics_log.offset(),
            "last": self.last,
            "loggers": {name: logger.state_dict() for name, logger in self.loggers.items()},
        }
