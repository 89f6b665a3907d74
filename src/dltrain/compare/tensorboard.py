"""TensorBoard on exactly these runs, on localhost, for as long as nobody stops it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from dltrain.compare.run import Run
from dltrain.durable import irregular
from dltrain.errors import UserError

EVENTS = "events.out.tfevents.*"
OnStop = Callable[[Callable[[int], None]], None]


def serve(found: Sequence[Run], port: int | None, on_stop: OnStop) -> int:
    """Serves until it is stopped; the exit code of TensorBoard, or 0 where a signal ended it.

    `on_stop` registers what a signal shall call. The folder of links that TensorBoard reads is
    removed at the end.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("--tensorboard needs tensorboard: pip install tensorboard")
    with tempfile.TemporaryDirectory(prefix="dltrain-compare-") as folder:
        if not link_events(found, Path(folder)):
            raise UserError("none of these runs has events of TensorBoard (loggers=[tensorboard])")
        # -P: not from the current folder, whatever lies there
        command = [sys.executable, "-P", "-m", "tensorboard.main", "--logdir", folder]
        command += ["--host", "localhost", "--port", "default" if port is None else str(port)]
        stopped: list[int] = []
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

        def stop(number: int) -> None:
            stopped.append(number)
            with suppress(ProcessLookupError):
                process.terminate()

        try:
            on_stop(stop)
            code = process.wait()
        finally:
            process.kill()
            process.wait()
    return 0 if stopped else code


def link_events(found: Sequence[Run], folder: Path) -> int:
    """A folder a run under the run's name, with links to its event files: to the files, since a
    link to the run would show whatever lies below it. Returns how many runs have some."""
    num_runs = 0
    for run in found:
        files = [file for file in run.path.glob(EVENTS) if not irregular(file)]
        if not files or not run.is_compared:
            continue
        place = folder / run.name
        place.mkdir(parents=True, exist_ok=True)
        for file in files:
            with suppress(FileExistsError):  # names that differ in what is no text
                (place / file.name).symlink_to(os.path.abspath(file))
        num_runs += 1
    return num_runs
