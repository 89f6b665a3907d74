"""What the screen shows of a run: a bar on a terminal, plain lines everywhere else."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

from dltrain.engine.callback import Callback

if TYPE_CHECKING:
    from dltrain.callbacks.progress_bar import ProgressBar
    from dltrain.engine.trainer import Trainer

SILENCE_SEC = 60  # after so long without an evaluation, a line says that training goes on
NOTEWORTHY_WAITING = 0.2  # of the time: less is not worth a place on the line
MOST_TELLING = ("accuracy/val", "loss/val", "loss/train", "accuracy/train")


class Progress(Callback):
    """Prints a line an evaluation, and on a terminal shows a bar below.

    The bar is drawn by a thread of its own, which looks at the trainer four times a second: there
    is no `after_update`, and a training step costs what it costs without.

    Args:
        line_every_sec: least seconds between two lines; the first and the last evaluation are
            always printed.
    """

    def __init__(self, *, line_every_sec: float) -> None:
        if not line_every_sec >= 0:
            raise ValueError(
                f"callbacks.progress.line_every_sec is {line_every_sec}; it must be >= 0 seconds"
            )
        self.line_every_sec = line_every_sec
        # Read by the drawing thread: replaced, never changed in place.
        self.metrics: dict[str, float] = {}
        self.samples_per_sec = self.data_share = 0.0
        self._bar: ProgressBar | None = None
        self._unprinted: list[str] = []
        self._printed_at = -math.inf

    def on_fit_start(self, trainer: Trainer) -> None:
        output = Output(sys.stdout)
        self._print: Callable[[list[str]], None] = lambda parts: output.line("  ".join(parts))
        self._begin = (time.monotonic(), trainer.step)
        self._anchor: tuple[float, float] | None = None
        if output.is_terminal():
            from dltrain.callbacks.progress_bar import ProgressBar  # rich: 0.05 s

            self._bar = ProgressBar(output, lambda: self._parts(trainer), lambda: trainer.progress)
            self._print = self._bar.line

    def on_log(self, trainer: Trainer, row: dict[str, Any]) -> None:
        if row["split"] != "train":
            return
        train = {f"{name}/train": row[name] for name in ("loss", "accuracy") if name in row}
        self.metrics = self.metrics | train
        self.samples_per_sec = row.get("samples_per_sec", 0.0)
        self.data_share = row.get("data_share", 0.0)
        line = self._line(trainer)
        if time.monotonic() - max(self._printed_at, self._begin[0]) > SILENCE_SEC:
            self._print_line(line)

    def on_evaluate(self, trainer: Trainer, split: str, metrics: dict[str, float]) -> None:
        self.metrics = self.metrics | {f"{name}/{split}": v for name, v in metrics.items()}
        self._unprinted = self._line(trainer)
        if time.monotonic() - self._printed_at >= self.line_every_sec:
            self._print_line(self._unprinted)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._unprinted:
            self._print_line(self._unprinted)
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _print_line(self, parts: list[str]) -> None:
        self._unprinted, self._printed_at = [], time.monotonic()
        self._print(parts)

    def _line(self, trainer: Trainer) -> list[str]:
        """`epoch 3/10  accuracy/val 0.9785  loss/val 0.0731  loss/train 0.0512  best  ...`"""
        is_best = trainer.best is not None and trainer.best["step"] == trainer.step
        step = f"step {trainer.step:,}"
        parts = [
            _epochs(trainer).replace(".0", ""),
            *self._shown().values(),
            "best" if is_best else "",
            step,
        ]
        return [part for part in (*parts, self._speed(), self._time_left(trainer)) if part]

    def _parts(self, trainer: Trainer) -> list[str]:
        """What stands beside the bar, what matters most first."""
        shown = self._shown()
        loss = shown.get("loss/train") or shown.get("loss/val", "")
        accuracy = shown.get("accuracy/val") or shown.get("accuracy/train", "")
        return [_epochs(trainer), self._time_left(trainer), loss, accuracy, self._speed()]

    def _shown(self) -> dict[str, str]:
        """`{"loss/val": "loss/val 0.0731", ...}`, the most telling first."""
        metrics = self.metrics
        order = [*(name for name in MOST_TELLING if name in metrics), *metrics]
        return {name: f"{name} {_number(metrics[name])}" for name in order}

    def _speed(self) -> str:
        waiting = f", {self.data_share:.0%} data" if self.data_share >= NOTEWORTHY_WAITING else ""
        return f"{self.samples_per_sec:,.0f} samples/s{waiting}" if self.samples_per_sec else ""

    def _time_left(self, trainer: Trainer) -> str:
        """From the speed since training was first seen to go on, evaluation included.

        Not since `on_fit_start`: only after it a checkpoint is loaded, and progress jumps.
        """
        now, progress = time.monotonic(), trainer.progress
        if self._anchor is None and trainer.step != self._begin[1]:
            self._anchor = (now, progress)
        anchor_sec, anchor_progress = self._anchor or (now, progress)
        done = progress - anchor_progress
        if done <= 0 or progress >= 1:
            return ""
        return f"{_clock((now - anchor_sec) * (1 - progress) / done)} left"


def _epochs(trainer: Trainer) -> str:
    epoch = f"epoch {trainer.epoch_at(trainer.step):.1f}"
    if trainer.num_steps is None:
        return epoch
    return epoch + f"/{trainer.epoch_at(trainer.num_steps):.1f}".removesuffix(".0")


def _number(value: float) -> str:
    """Of one width as far as possible: what moves is hard to read."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e3 else f"{value:.3g}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Output:
    """Standard output that falls silent, rather than raise, when nobody reads it any more."""

    def __init__(self, stream: IO[str] | None) -> None:
        self.stream = stream

    @property
    def encoding(self) -> str:
        return getattr(self.stream, "encoding", None) or "utf-8"

    def is_terminal(self) -> bool:
        return os.environ.get("TERM") != "dumb" and self.isatty()

    def isatty(self) -> bool:
        try:
            return self.stream is not None and self.stream.isatty()
        except ValueError:  # closed
            return False

    def fileno(self) -> int:
        if self.stream is None:
            raise OSError("there is no standard output")
        return self.stream.fileno()

    def line(self, text: str) -> None:
        self.write(text + "\n")
        self.flush()

    def write(self, text: str) -> int:
        try:
            return 0 if self.stream is None else self.stream.write(text)
        except (OSError, ValueError) as error:
            self._fall_silent(error)
            return 0

    def flush(self) -> None:
        try:
            if self.stream is not None:
                self.stream.flush()
        except (OSError, ValueError) as error:
            self._fall_silent(error)

    def _fall_silent(self, error: Exception) -> None:
        """Sends what others print from now on to nowhere, too, or their `print` would raise.

        As docs.python.org says it: signal, "Note on SIGPIPE".
        """
        stream, self.stream = self.stream, None
        if stream is None or not isinstance(error, OSError):
            return
        with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
