"""TensorBoard on exactly these runs, on localhost, for as long as nobody stops it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from dltrain import plain
from dltrain.compare.run import Run
from dltrain.durable import irregular
from dltrain.errors import UserError

EVENTS = "events.out.tfevents.*"
# The projector's, as loggers/projector.py writes it: TensorBoard would open any path that it names
PROJECTOR, PROJECTED = "projector_config.pbtxt", "projector"
LINE = re.compile(
    r'\s*(\w+ \{|\}|tensor_name: "\w+"|(tensor_shape|single_image_dim): [0-9]+'
    rf'|(tensor|metadata|image)_path: "{PROJECTED}/\w+\.\w+")\s*'
)
MAX_BYTES = 10_000
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
    """A folder a run under the run's name, with links to what is TensorBoard's: to the files, since
    a link to the run would show whatever lies below it. Returns how many runs have some."""
    num_runs = 0
    for run in found:
        files = [file for file in run.path.glob(EVENTS) if not irregular(file)]
        if not files or not run.is_compared:
            continue
        place = folder / run.name
        place.mkdir(parents=True, exist_ok=True)
        for file in files + projected(run.path):
            link = place / file.relative_to(run.path)
            link.parent.mkdir(exist_ok=True)
            with suppress(FileExistsError):  # names that differ in what is no text
                link.symlink_to(os.path.abspath(file))
        num_runs += 1
    return num_runs


def projected(run_dir: Path) -> list[Path]:
    """The files of the projector; none where the run has none, or not as we write them."""
    try:
        with plain.open_regular(run_dir / PROJECTOR) as file:
            lines = file.read(MAX_BYTES).decode().splitlines()
        below = run_dir / PROJECTED
        if irregular(below) or not all(LINE.fullmatch(line) for line in lines):
            return []
        files = [file for file in below.iterdir() if file.is_file() and not irregular(file)]
    except plain.PLAIN_ERRORS:
        return []
    return [run_dir / PROJECTOR, *files]
