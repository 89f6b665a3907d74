"""`dltrain compare`: a table over runs, its plots, and TensorBoard on just these runs."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dltrain import runs
from dltrain.commands.signals import SIGNALS
from dltrain.compare import text
from dltrain.compare.arguments import check, parser
from dltrain.compare.find import LATEST, find_runs, name_all, numbered, settle_choices
from dltrain.compare.run import Run
from dltrain.compare.table import Options, Table, make_table, what_is_not_compared
from dltrain.config.near import did_you_mean
from dltrain.durable import irregular, replace_text
from dltrain.errors import NO_SPACE, StorageError, UserError
from dltrain.runs import OUTPUTS


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


def table_of(paths: Sequence[str], width: int = 80, **options: Any) -> str:
    """The table as text, for whoever wants one below something else; `options` as `Options` has
    them: `table_of([sweep_dir], group="seed")`."""
    return text.to_screen(make_table(find_runs(paths), Options(**options)), width)


# ---------------------------------------------------------------------- what is shown


def show_diff(asked: argparse.Namespace) -> int:
    from dltrain.compare.diff import diff

    listed: list[Run] = []
    if any(text != LATEST and not Path(text).exists() for text in asked.diff):
        listed = find_runs(asked.paths or [OUTPUTS])
    first, second = (one_run(text, listed) for text in asked.diff)
    name_all([first, second])
    settle_choices([first, second])
    return show(diff(first, second), asked, [])


def one_run(text: str, listed: Sequence[Run]) -> Run:
    """The run at a path, or the one that has this name in the table over the paths."""
    if text == LATEST or Path(text).exists():
        found = find_runs([str(runs.find_run(LATEST)) if text == LATEST else text])
    else:
        found = [run for run in listed if text in names_of(run)]
        if not found:
            near = did_you_mean(text, [run.name for run in listed])
            raise UserError(
                f"--diff: `{text[:200]}` is neither a directory nor a run in the table; "
                f"{near or 'write a name that `dltrain compare PATH` shows'}"
            )
    if len(found) > 1:
        names = ", ".join(str(run.path) for run in found[:3]) + ", ..." * (len(found) > 3)
        raise UserError(f"--diff: {text} holds {len(found)} runs ({names}); name one of them")
    if not found[0].is_compared:
        raise UserError(f"--diff: {found[0].path} is {found[0].status}: {found[0].reason}")
    return found[0]


def names_of(run: Run) -> list[str | None]:
    """What a table, or a listing of its folder, calls it; in a narrow table that is a number."""
    names = [run.name, run.path.name]
    return [*names, *map(numbered, names)]


def show_plot(
    asked: argparse.Namespace, options: Options, found: list[Any], notes: list[str]
) -> int:
    from dltrain.compare.against import plot_against
    from dltrain.compare.heatmap import plot_heatmap
    from dltrain.compare.plot import plot_curves

    file = Path(asked.plot)
    with writing(file):
        if asked.heatmap is not None:
            plot_heatmap(found, options, asked.heatmap, file)
        elif asked.x is not None:
            notes = notes + plot_against(found, options, asked.x, asked.color or "", file)
        else:
            notes = notes + plot_curves(found, options, asked.smooth, file)
    tell(notes)
    print(f"plot       {file}")
    return 0


def show(table: Table, asked: argparse.Namespace, notes: list[str]) -> int:
    kind = asked.format or "table"
    width = shutil.get_terminal_size((80, 24)).columns
    made = text.render(table, kind, width)
    if asked.output:
        with writing(Path(asked.output)):
            replace_text(Path(asked.output), made, sync=False)
        print(f"{kind:<10} {asked.output}: {len(table.rows)} rows")
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
        kind = "a folder" if self.path.is_dir() else None
        if kind is None and os.path.lexists(self.path):
            kind = irregular(self.path)
        if kind:
            raise UserError(f"cannot write {self.path}: it is {kind}; name a file")

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raises = StorageError if error.errno in NO_SPACE else UserError
            raise raises(f"cannot write {self.path}: {error.strerror or error}") from None
