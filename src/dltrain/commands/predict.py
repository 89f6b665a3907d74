"""`dltrain predict RUN PATH...`: classes and probabilities of image files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from dltrain.commands import console
from dltrain.commands.failures import enough_memory, storage_errors
from dltrain.commands.opening import (
    Asked,
    open_asked,
    read_config,
    refuse_existing,
    shown_path,
    take_apart,
)
from dltrain.commands.signals import SIGNALS
from dltrain.commands.train import take_allowed_targets
from dltrain.durable import naming
from dltrain.errors import UserError
from dltrain.plain import printable
from dltrain.predictions import FORMATS, Prediction, paths_of, predict_files, writer

HELP = """\
usage: dltrain predict RUN PATH... [key=value ...] [--allow-target PACKAGE]

The likeliest classes of image files, by the run in the directory RUN (or `latest`), prepared as
its validation images were. PATH is a file, a folder (all image files in it, however deep), or `-`
for a list of paths on standard input, one a line or separated by NUL.

  dltrain predict latest photo.jpg
  dltrain predict latest photos output=photos.csv top=5
  find photos -name '*.png' -print0 | dltrain predict latest - output=photos.jsonl

  output=       a file that gets every prediction, .csv or .jsonl, instead of the screen
  overwrite=    false (the default) or true: a file that is there is replaced
  top=          so many classes of each (3)
  checkpoint=   best, last, a step, or a path; by default the weights that the run has tested
  ema=          auto (as the run evaluates), true or false: the average of the weights
  loader.eval_batch_size, loader.num_workers, task.views, trainer.device, precision, threads

A file that is no image is named on stderr, the rest goes on, and the exit code is 2.
"""
OWN = ("output", "overwrite", "top", "checkpoint", "ema")
CONFIG = (
    "loader.eval_batch_size", "loader.num_workers", "task.views", "trainer.device",
    "trainer.precision", "trainer.threads",
)  # fmt: skip
TOP, MAX_TOP = 3, 1000


@dataclass
class Count:
    """Files so far."""

    seen: int = 0
    bad: int = 0

    @property
    def good(self) -> int:
        return self.seen - self.bad


def main(argv: list[str]) -> int:
    """Returns the exit code; raises DltrainError for what the user can mend."""
    if not argv or "-h" in argv or "--help" in argv:
        print(HELP, end="")
        return 0
    allowed, rest = take_allowed_targets(argv)
    if not rest or rest[0].startswith("-"):
        raise UserError("predict needs the directory of a run; write `dltrain predict RUN PATH...`")
    paths, options = separate(rest[1:])
    asked = take_apart(rest[0], options, OWN, CONFIG)
    asked.allowed = allowed
    top, output = top_of(asked), output_of(asked)
    if not paths:
        raise UserError("predict needs image files, folders, or `-` for a list on standard input")
    if b"-" in paths and sys.stdin is None:
        raise UserError("`-` reads a list of paths, and standard input is closed")
    _ = asked.ema  # wrong before torch is imported
    config = read_config(asked)
    config["trainer"]["compile"] = False
    num_workers = config["loader"]["num_workers"] if asked.typed("loader.num_workers") else "auto"
    count = Count()
    with console.logging_to_screen(), enough_memory(), storage_errors():
        run = open_asked(asked, config)
        top = min(top, len(run.classes))
        if run.weights.note:
            print(run.weights.note, file=sys.stderr)
        found = predict_files(
            run,
            paths_of(paths, lambda: sys.stdin.buffer),
            top=top,
            num_workers=num_workers,
        )
        stopped = False
        with closing(found), opened(output, count) as file:  # type: ignore[type-var]  # a generator
            write = writer(output, file, top) if output and file else show
            try:
                SIGNALS.call(interrupt)
                for_all(found, count, write)
            except KeyboardInterrupt:
                stopped = True
    if output and count.good:
        print(f"written to {shown_path(output)}: {count.good:,} files")
    if stopped:
        print(f"stopped after {count.seen:,} files", file=sys.stderr)
        return SIGNALS.exit_code or 130
    if count.bad:
        raise UserError(f"{count.bad:,} of {count.seen:,} files could not be read; they are named")
    if not count.seen:
        raise UserError(nothing_found(paths))
    return 0


def separate(arguments: list[str]) -> tuple[list[bytes], list[str]]:
    """Paths, and key=value; what is there is a path, and all that follows a `--`."""
    paths: list[bytes] = []
    options: list[str] = []
    for place, argument in enumerate(arguments):
        if argument == "--":
            return [*paths, *map(os.fsencode, arguments[place + 1 :])], options
        is_option = re.match(r"\+{0,2}[\w.]+=", argument) and not os.path.lexists(argument)
        if is_option:
            options.append(argument)
        elif argument.startswith("-") and argument != "-" and not os.path.lexists(argument):
            raise UserError(f"there is no flag {argument}; `dltrain predict --help` says more")
        else:
            paths.append(os.fsencode(argument))
    if paths.count(b"-") > 1:
        raise UserError("`-` is given twice, and standard input can be read once")
    return paths, options


def top_of(asked: Asked) -> int:
    text = str(asked.own.get("top", TOP))
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_TOP:
        raise UserError(f"top is {text}; it must be a whole number from 1 to {MAX_TOP}")
    return int(text)


def output_of(asked: Asked) -> Path | None:
    text = asked.own.get("output")
    if text in (None, "-"):
        return None
    path = Path(str(text))
    if path.suffix not in FORMATS:
        raise UserError(f"output is {text}; its name must end with {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise UserError(f"output is {text}; there is no folder {path.parent}")
    refuse_existing(asked, path)
    return path


def nothing_found(paths: list[bytes]) -> str:
    images = "image file (.jpg, .jpeg, .png, .webp, .bmp)"
    if paths == [b"-"]:
        return f"standard input is empty, or names folders without an {images}; one path a line"
    return f"there is no {images} in {'these folders' if len(paths) > 1 else 'this folder'}"


@contextmanager
def opened(path: Path | None, count: Count) -> Iterator[IO[str] | None]:
    """A file beside `path` that gets its name at the end, however it comes: hours of predictions
    are not lost with the last of them. Where nothing was predicted, `path` stays as it is."""
    if path is None:
        yield None
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        file = open(temporary, "x", encoding="utf-8", errors="surrogateescape", newline="")  # noqa: SIM115
        with storing(path, file) as named:
            yield named
    finally:
        if count.good:
            os.replace(temporary, path)
        temporary.unlink(missing_ok=True)


@contextmanager
def storing(path: Path, file: IO[str]) -> Iterator[IO[str]]:
    """An OSError of writing gets the name of `path`; the last is written when `file` is closed."""
    try:
        yield cast(IO[str], Named(file, path))
    finally:
        with naming(path):
            file.close()


@dataclass
class Named:
    file: IO[str]
    path: Path

    def write(self, text: str) -> int:
        with naming(self.path):
            return self.file.write(text)


def interrupt(number: int) -> None:
    raise KeyboardInterrupt


def for_all(found: Iterator[Prediction], count: Count, write: Any) -> None:
    for prediction in found:
        count.seen += 1
        if prediction.error:
            count.bad += 1
            sys.stdout.flush()
            path = printable(prediction.path)
            print(f"{path}: {printable(prediction.error)}", file=sys.stderr)
        write(prediction)


def show(prediction: Prediction) -> None:
    if not prediction.error:
        classes = (f"{printable(name)} {value:.2%}" for name, value in prediction.top)
        print("  ".join([printable(prediction.path), *classes]))
