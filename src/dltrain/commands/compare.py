"""`dltrain compare`: a table over runs, its plots, and TensorBoard on just these runs."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from dltrain.commands.signals import SIGNALS
from dltrain.compare import text
from dltrain.compare.find import find_runs, settle_choices
from dltrain.compare.table import Options, Table, make_table, what_is_not_compared
from dltrain.durable import replace_text
from dltrain.errors import NO_SPACE, StorageError, UserError
from dltrain.runs import OUTPUTS

FORMATS = ("table", *text.FORMATS)
ENDINGS = {".md": "markdown", ".csv": "csv", ".json": "json"}
PICTURES = (".png", ".svg", ".pdf")
EPILOG = """\
KEY is a setting (optimizer.lr, or lr where that is unambiguous), a metric, or one of run, status,
time, images/s, step, epoch, parameters, path. A metric is accuracy/val:best (what the run
monitors), :last, :min, :max, or @500, its newest value at step 500; accuracy/test.

  dltrain compare outputs/digits_mlp                       # every run below
  dltrain compare SWEEP --group seed --sort best --descending
  dltrain compare SWEEP --where 'optimizer.lr > 0.01 and status == completed'
  dltrain compare SWEEP --group seed --plot curves.svg --metrics loss/val
  dltrain compare SWEEP --plot map.png --heatmap optimizer.lr model.dropout
  dltrain compare --diff RUN1 RUN2
  dltrain compare SWEEP --where 'status == completed' --tensorboard
"""


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
    add("--columns", default="", metavar="KEYS", help="just these")
    add("--where", default="", metavar="TEXT", help="KEY OP VALUE [and ...]; OP: == != < <= > >=")
    add("--sort", default="", metavar="KEY", help="rows in this order")
    add("--descending", action="store_true", help="the largest first")
    add("--format", choices=FORMATS, help="by default that of FILE's ending, else table")
    add("--output", metavar="FILE", help="instead of the screen")
    add("--diff", nargs=2, metavar=("A", "B"), help="two runs' configs, key by key")
    add("--plot", metavar="FILE", help=f"curves of a metric: {', '.join(PICTURES)}")
    add("--smooth", type=weight, metavar="WEIGHT", help="exponential moving average, from 0 (none) "
        "to below 1; by default 0.6 for training, 0 for evaluations")  # fmt: skip
    add("--heatmap", nargs="*", metavar="KEY", help="--plot a map of a metric over two settings; "
        "by default the two that differ")  # fmt: skip
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


def main(argv: list[str]) -> int:
    """Returns the exit code; raises UserError for what the user can mend."""
    try:
        asked = parser().parse_intermixed_args(argv)
    except SystemExit as ended:  # --help
        return int(ended.code or 0)
    check(asked)
    if asked.diff:
        return show_diff(asked)
    found = find_runs(asked.paths or [OUTPUTS])
    notes = what_is_not_compared(found)
    options = Options(
        *(asked.group, asked.metrics, asked.columns, asked.at, asked.where, asked.sort),
        descending=asked.descending,
    )
    if asked.plot:
        return show_plot(asked, options, found, notes)
    table = make_table(found, options)
    if asked.tensorboard:
        from dltrain.compare.tensorboard import serve

        tell(notes)
        chosen = [run for group in table.groups for run in group.runs]
        return serve(chosen, asked.port, SIGNALS.call)
    return show(table, asked, notes)


def check(asked: argparse.Namespace) -> None:
    """Raises UserError for options that say nothing together; --heatmap may have taken paths."""
    if asked.heatmap is not None:
        words = asked.heatmap
        while words and (len(words) > 2 or Path(words[-1]).is_dir() or words[-1] == "latest"):
            asked.paths.append(words.pop())
        if len(words) == 1:
            raise UserError("--heatmap needs two settings, or none where just two differ")
        if not asked.plot:
            raise UserError("--heatmap needs --plot FILE for the picture")
    if asked.plot and Path(asked.plot).suffix.lower() not in PICTURES:
        raise UserError(f"--plot {asked.plot}: the file must end in {', '.join(PICTURES)}")
    if asked.diff and asked.paths:
        raise UserError(f"--diff compares two runs; `{asked.paths[0]}` is one more")
    if asked.port is not None and (not asked.tensorboard or asked.port > 65535):
        raise UserError("--port N is the port of --tensorboard, at most 65535")
    modes = [name for name in ("diff", "plot", "tensorboard") if getattr(asked, name)]
    if len(modes) > 1:
        raise UserError(f"--{modes[0]} and --{modes[1]} are two things; give one of them")


def table_of(paths: Sequence[str], width: int = 80, **options: Any) -> str:
    """The table as text, for whoever wants one below something else; `options` as `Options` has
    them: `table_of([sweep_dir], group="seed")`."""
    return text.to_screen(make_table(find_runs(paths), Options(**options)), width)


# ---------------------------------------------------------------------- what is shown


def show_diff(asked: argparse.Namespace) -> int:
    from dltrain.compare.diff import diff

    first, second = (one_run(path) for path in asked.diff)
    settle_choices([first, second])
    return show(diff(first, second), asked, [])


def one_run(path: str) -> Any:
    found = find_runs([path])
    if len(found) > 1:
        raise UserError(f"--diff: {path} holds {len(found)} runs; name one of them")
    if not found[0].is_compared:
        raise UserError(f"--diff: {found[0].path} is {found[0].status}: {found[0].reason}")
    return found[0]


def show_plot(
    asked: argparse.Namespace, options: Options, found: list[Any], notes: list[str]
) -> int:
    from dltrain.compare.plot import plot_curves, plot_heatmap

    file = Path(asked.plot)
    with writing(file):
        if asked.heatmap is not None:
            plot_heatmap(found, options, asked.heatmap, file)
        else:
            notes = notes + plot_curves(found, options, asked.smooth, file)
    tell(notes)
    print(f"plot       {file}")
    return 0


def show(table: Table, asked: argparse.Namespace, notes: list[str]) -> int:
    kind = asked.format or ENDINGS.get(Path(asked.output or "").suffix.lower(), "table")
    width = shutil.get_terminal_size((80, 24)).columns
    made = text.render(table, kind, width)
    if asked.output:
        with writing(Path(asked.output)):
            replace_text(Path(asked.output), made, sync=False)
    else:
        print(for_screen(made), end="", flush=True)
    tell([*table.notes, *notes])
    return 0


def for_screen(made: str) -> str:
    """For a terminal that has ASCII alone."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    return made if "utf" in encoding else made.replace("±", "+-").replace("…", "~")


def tell(notes: Sequence[str]) -> None:
    """On stderr: what is piped is the table alone."""
    from dltrain.cli import tell as tell_line

    for note in notes:
        tell_line(for_screen(note))


class writing:  # noqa: N801
    """An OSError of writing a file that was typed is the user's to mend."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        if self.path.is_dir():
            raise UserError(f"cannot write {self.path}: it is a folder")

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raises = StorageError if error.errno in NO_SPACE else UserError
            raise raises(f"cannot write {self.path}: {error.strerror or error}") from None
