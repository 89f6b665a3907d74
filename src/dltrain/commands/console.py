"""What a run says: to the screen, and with times to `train.log`."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dltrain import runs

log = logging.getLogger("dltrain")


class ConsoleHandler(logging.Handler):
    """Prints messages to whatever stdout is now; a reader that has gone does not stop the run."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(record.getMessage(), flush=True)
        except (OSError, ValueError, UnicodeEncodeError):
            pass


class LogFile(logging.FileHandler):
    """`train.log`; a full disk shows here like anywhere else."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self.shown = str(path)  # logging makes it absolute

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        error.filename = self.shown
        error.add_note(f"{len(record.getMessage()):,} bytes are needed")
        raise error


@contextmanager
def logging_to(run_dir: Path) -> Iterator[Callable[[], None]]:
    """Sends the log to the screen; and to `train.log`, from the start, once the yielded is called.

    Until then nothing is written into the run's directory: it may yet turn out to be a mistake.
    DEBUG goes to the file alone.
    """
    console = ConsoleHandler(logging.INFO)
    memory = logging.handlers.MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1)
    memory.flushOnClose = False
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(console)
    log.addHandler(memory)

    def open_file() -> None:
        file = LogFile(run_dir / runs.LOG)
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        memory.setTarget(file)
        memory.flush()
        log.removeHandler(memory)
        log.addHandler(file)

    try:
        yield open_file
    finally:
        for handler in list(log.handlers):
            log.removeHandler(handler)
            with contextlib.suppress(OSError):  # a full disk has been told of, or hides what has
                handler.close()


@contextmanager
def logging_to_screen() -> Iterator[None]:
    """For commands that leave nothing behind."""
    handler = ConsoleHandler(logging.INFO)
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def say_what_is_trained(
    config: dict[str, Any], choices: dict[str, Any], trainer: Any, data: Any, place: str
) -> None:
    """Six lines: the data, the model, how, how long, on what, and where the data lies."""
    dataset, plan = data.dataset, trainer.plan
    sizes = " / ".join(f"{len(split.targets):,} {name}" for name, split in data.splits.items())
    shape = "×".join(map(str, dataset.image_shape))
    parameters = sum(p.numel() for p in trainer.model.parameters())
    optimizer = config["optimizer"]
    rate = f"lr {optimizer['lr']}, " if "lr" in optimizer else ""
    say(
        "dataset",
        f"{choices.get('dataset', 'dataset')}: {sizes}, {shape}, {dataset.num_classes} classes",
    )
    for note in getattr(dataset, "notes", ()):
        say("", note)
    say("model", f"{choices.get('model', 'model')}: {parameters:,} parameters")
    say(
        "optimizer",
        f"{choices.get('optimizer')}, {rate}{choices.get('scheduler')}",
    )
    length = "until time is up" if plan.num_steps is None else f"{plan.num_steps:,} steps"
    per_epoch = f"{plan.steps_per_epoch:,} an epoch, batches of {config['loader']['batch_size']}"
    say("training", f"{length}, {per_epoch}")
    import torch

    from dltrain.engine.device import device_name

    count = torch.get_num_threads()
    threads = f", {count} thread{'s' * (count > 1)}" if trainer.device.type == "cpu" else ""
    say("on", f"{device_name(trainer.device)}, {trainer.precision}{threads}")
    say("data", place)


def say(what: str, text: str) -> None:
    log.info("%-10s %s", what, text)


def say_results(
    run_dir: Path, summary: dict[str, Any], rows: dict[str, dict[str, float]], tested: str
) -> None:
    """A small table of results, where the run is, and how to look at it.

    `train` and `val` are the newest rows; `tested` says which weights `test` is of.
    """
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    log.info("")
    log.info(
        "%s", "".join(["split".ljust(8), *(name.rjust(max(10, len(name) + 2)) for name in names)])
    )
    for split, row in rows.items():
        cells = [show(name, row.get(name)).rjust(max(10, len(name) + 2)) for name in names]
        log.info("%s", "".join([split.ljust(8), *cells]))
    log.info("")
    best = summary.get("best")
    if best:
        log.info(
            "best       %s = %s at step %s",
            best["monitor"],
            show(best["monitor"], best["value"]),
            f"{best['step']:,}",
        )
    if rows.get("test"):
        log.info("tested     %s", tested)
    log.info("run        %s", run_dir)
    log.info("look       tensorboard --logdir %s", run_dir.parent)


def show(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2%}" if name.startswith("accuracy") else f"{value:.4g}"


def progress() -> Callable[[str, int, int], None]:
    """A line that grows on a terminal; through a pipe one line at every quarter.

    What ends in `images` is counted; all else is measured in bytes.
    On stdout: stderr is for what went wrong.
    """
    on_terminal = sys.stdout.isatty()
    said: dict[str, int] = {}

    def show(name: str, done: int, total: int) -> None:
        part = done * (100 if on_terminal else 4) // max(1, total)
        if said.get(name) == part:
            return
        said[name] = part
        text = f"{name}  {done / 2**20:.1f} of {total / 2**20:.1f} MiB"
        if name.endswith(" images"):
            text = f"{name}  {done:,} of {total:,}"
        with contextlib.suppress(OSError, ValueError, AttributeError):
            start, end = ("\r", "\n" * (done >= total)) if on_terminal else ("", "\n")
            sys.stdout.write(f"{start}{text}{end}")
            sys.stdout.flush()

    return show
