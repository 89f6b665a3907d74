"""What can be typed after `dltrain compare`, and which of it says something together."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from dltrain.compare import text
from dltrain.compare.find import LATEST
from dltrain.errors import UserError
from dltrain.runs import OUTPUTS

FORMATS = ("table", *text.FORMATS)
ENDINGS = {".md": "markdown", ".csv": "csv", ".json": "json", ".txt": "table"}
PICTURES = (".png", ".svg", ".pdf")
EPILOG = """\
KEY is a setting (optimizer.lr, or lr where that is unambiguous), a metric, or one of run, status,
time, images/s, step, epoch, parameters, path. A metric is accuracy/val, its last value, or
accuracy/val:best (where it is what the run monitors), :min, :max, or @500, its newest value at
step 500; accuracy/test. `best` and `test` are those of what the runs monitor.

  dltrain compare outputs/digits_mlp                       # every run below
  dltrain compare SWEEP --group seed --sort test --descending
  dltrain compare SWEEP --where 'optimizer.lr > 0.01 and status == completed'
  dltrain compare SWEEP --group seed --plot curves.svg --metrics loss/val
  dltrain compare SWEEP --group seed --plot map.png --heatmap optimizer.lr model.dropout
  dltrain compare SWEEP --plot rates.png --x optimizer.lr --color model.dropout
  dltrain compare SWEEP --diff 0_lr=0.1 3_lr=0.2           # names or numbers in its table, or paths
  dltrain compare SWEEP --where 'status == completed' --tensorboard
"""
# The options that say something in each mode; --where (and the paths) in all but --diff
TABLE = {"group", "metrics", "at", "columns", "where", "sort", "format", "output"}
MODES = {
    "diff": {"format", "output"},
    "x": {"plot", "color", "metrics", "at", "where"},
    "heatmap": {"plot", "group", "metrics", "at", "where"},
    "plot": {"group", "metrics", "columns", "where", "sort", "smooth"},
    "tensorboard": {"where", "at", "port"},
}
NAMES = sorted({*TABLE, *MODES, *(name for names in MODES.values() for name in names)})


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}\n`dltrain compare --help` lists the options")


def parser() -> argparse.ArgumentParser:
    made = Parser(
        "dltrain compare",
        usage="dltrain compare [PATH ...] [option ...]",
        description="A table over runs, sweeps and folders of them (or `latest`):\n"
        "what differs in their settings, and what came out.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("paths", nargs="*", metavar="PATH", help=f"by default {OUTPUTS}/")
    add("--group", default="", metavar="KEYS", help="one row a setting, over the runs that differ "
        "in these alone (seed): mean ± sample standard deviation, and n")  # fmt: skip
    add("--metrics", default="", metavar="NAMES", help="by default the best of what is monitored, "
        "and its test value")  # fmt: skip
    add("--at", type=count, metavar="STEP", help="metrics at that step")
    add("--columns", default="", metavar="KEYS", help="just these, settings and metrics alike")
    add("--where", default="", metavar="TEXT", help="KEY OP VALUE [and ...]; OP: == != < <= > >=")
    add("--sort", default="", metavar="KEY", help="rows in this order")
    add("--descending", action="store_true", help="the largest first")
    add("--format", choices=FORMATS, help="by default that of FILE's ending, else table")
    add("--output", metavar="FILE", help=f"instead of the screen: {', '.join(ENDINGS)}")
    add("--diff", nargs=2, metavar=("A", "B"), help="two runs' configs, key by key")
    add("--plot", metavar="FILE", help=f"curves of a metric: {', '.join(PICTURES)}")
    add("--smooth", type=weight, metavar="WEIGHT", help="exponential moving average, from 0 (none) "
        "to below 1; by default 0.6 for long curves of training, else 0")  # fmt: skip
    add("--heatmap", nargs="*", metavar="KEY", help="--plot a map of a metric over two settings; "
        "by default the two that differ")  # fmt: skip
    add("--x", metavar="KEY", help="--plot a metric over a setting of numbers, a point a run")
    add("--color", metavar="KEY", help="of the points; by default what differs beside --x KEY")
    add("--tensorboard", action="store_true", help="TensorBoard on these runs, on localhost")
    add("--port", type=count, metavar="N", help="TensorBoard's; by default the next free from 6006")
    return made


def count(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 15:
        raise argparse.ArgumentTypeError(f"`{text[:40]}` must be a whole number >= 0")
    return int(text)


def weight(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"`{text[:40]}` must be a number >= 0 and < 1")
    return value


def check(asked: argparse.Namespace) -> None:
    """Raises UserError for options that say nothing together; --heatmap may have taken paths."""
    if asked.heatmap is not None:
        check_heatmap(asked)
    check_x(asked)
    if asked.plot and Path(asked.plot).suffix.lower() not in PICTURES:
        raise UserError(f"--plot {asked.plot}: the file must end in {', '.join(PICTURES)}")
    modes = [name for name in ("diff", "plot", "tensorboard") if getattr(asked, name)]
    if len(modes) > 1:
        raise UserError(f"--{modes[0]} and --{modes[1]} are two things; give one of them")
    if asked.port is not None and (not asked.tensorboard or asked.port > 65535):
        raise UserError("--port N is the port of --tensorboard, at most 65535")
    if asked.descending and not asked.sort:
        raise UserError("--descending needs --sort KEY: what shall be in that order?")
    if asked.columns and asked.metrics and not asked.plot:
        raise UserError("--columns names every column; write the metrics of --metrics there too")
    pictures = [name for name in ("heatmap", "x") if getattr(asked, name) is not None]
    check_mode(asked, (*pictures, *modes, "")[0])
    check_ending(asked)


def check_mode(asked: argparse.Namespace, mode: str) -> None:
    known = MODES.get(mode, TABLE)
    for name in NAMES:
        value = getattr(asked, name)
        if value is None or value is False or value == "" or name == mode or name in known:
            continue
        if not mode:
            raise UserError(f"--{name} says nothing of a table; it goes with --plot FILE")
        raise UserError(f"--{name} says nothing together with --{mode}; leave one of them out")


def check_heatmap(asked: argparse.Namespace) -> None:
    words = asked.heatmap
    is_path = [Path(word).is_dir() or word == LATEST for word in words]
    if len(words) > 2 or any(is_path):  # two keys at most, whether paths come before or behind
        keys = [word for word, path in zip(words, is_path, strict=True) if not path]
        asked.paths += [word for word, path in zip(words, is_path, strict=True) if path] + keys[2:]
        asked.heatmap = words = keys[:2]
    if len(words) == 1:
        raise UserError("--heatmap needs two settings, or none where just two differ")
    if not asked.plot:
        raise UserError("--heatmap needs --plot FILE for the picture")


def check_x(asked: argparse.Namespace) -> None:
    if asked.color is not None and asked.x is None:
        raise UserError("--color KEY needs --x KEY: it is the colour of points over a setting")
    if asked.x is not None and not asked.plot:
        raise UserError("--x KEY needs --plot FILE for the picture")
    if asked.x is not None and asked.heatmap is not None:
        raise UserError("--heatmap and --x are two pictures; give one of them")


def check_ending(asked: argparse.Namespace) -> None:
    """A table is written in the format of its file's ending; another one has to be asked for."""
    if asked.output and not asked.format:
        asked.format = ENDINGS.get(Path(asked.output).suffix.lower())
        if asked.format is None:
            raise UserError(
                f"--output {asked.output}: the file must end in {', '.join(ENDINGS)}; "
                "or say with --format what to write"
            )
