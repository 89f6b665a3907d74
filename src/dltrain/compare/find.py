"""The runs below some folders, found by what makes a run's directory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from dltrain import runs
from dltrain.compare.run import Run, Value, read_run
from dltrain.errors import UserError

MAX_FOLDERS = 200_000  # a second a hundred thousand
MARKS = frozenset((runs.SUMMARY, runs.RECORD, runs.METRICS, runs.CHECKPOINTS))
LATEST = "latest"
JOB = re.compile(r"((?:.*/)?[0-9]+)_[^/=]+=[^/]*", re.DOTALL)
NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?"


def find_runs(paths: Sequence[str]) -> list[Run]:
    """Every run in `paths` or below them once, in natural order; a path without any is `foreign`.

    Raises UserError for a path that is no directory, and where there is no run at all.
    """
    found: dict[str, Run] = {}
    for text in paths:
        top = latest() if text == LATEST else directory(text)
        below = run_directories(top) or [top]
        for path in below:
            found.setdefault(os.path.realpath(path), read_run(path))
    result = sorted(found.values(), key=lambda run: natural(str(run.path)))
    if all(run.status == "foreign" for run in result):
        named = ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")
        raise UserError(f"there is no run in {named}: name a run, a sweep, or a folder of them")
    name_all(result)
    settle(result)
    return result


def latest() -> Path:
    """The run that started last below outputs/, or the sweep that it is a job of."""
    newest = runs.find_run(LATEST)
    return next((path for path in newest.parents[:-1] if (path / runs.SWEEP).is_file()), newest)


def directory(text: str) -> Path:
    path = Path(text)
    if text == runs.OUTPUTS and not path.exists():
        raise UserError(
            f"there is no run below {runs.OUTPUTS}/ yet: start one with `dltrain train`"
        )
    if not text.strip() or len(os.fsencode(text)) > 3000 or not os.path.isdir(path):
        shown = text if len(text) <= 200 else f"{text[:197]}..."
        what = "is a file; name a run's directory" if os.path.isfile(path) else "does not exist"
        raise UserError(f"`{shown}` {what}")
    return path


def run_directories(top: Path) -> list[Path]:
    """Not into a run, checkpoints, hidden folders or links.

    What only looks like a run, or like one that is damaged, is one where no run lies below it.
    Raises UserError for a folder without end.
    """
    todo, found, doubtful, num_folders = [top], [], set(), 0
    while todo:
        folder = todo.pop()
        num_folders += 1
        if num_folders > MAX_FOLDERS:
            raise UserError(
                f"{top} holds more than {MAX_FOLDERS:,} folders; name those of the runs"
            )
        names, below = listing(folder)
        has_config, has_marks = runs.CONFIG in names, bool(names & MARKS)
        if has_config or has_marks or runs.HYDRA in names:
            found.append(folder)
        if not (has_config and has_marks):
            doubtful.add(folder)
            todo += below
    above = {parent for path in found for parent in path.parents}
    return [path for path in found if path not in doubtful or path not in above]


def listing(folder: Path) -> tuple[set[str], list[Path]]:
    """The names in a folder that say what it is, and the folders in it; none where it may not be
    read."""
    names, below = set(), []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name in MARKS or entry.name in (runs.CONFIG, runs.HYDRA):
                    names.add(entry.name)
                if not skipped(entry.name) and entry.is_dir(follow_symlinks=False):
                    below.append(folder / entry.name)
    except OSError:
        pass
    return names, below


def skipped(name: str) -> bool:
    return name.startswith(".") or name == runs.CHECKPOINTS


def name_all(found: list[Run]) -> None:
    """Their paths from the folder that holds all of them."""
    parent = os.path.commonpath([os.path.abspath(run.path.parent) for run in found])
    for run in found:
        run.name = as_text(os.path.relpath(os.path.abspath(run.path), parent))


def numbered(name: str) -> str | None:
    """`sweep/03` for `sweep/03_lr=0.1`, a job that is named by what it varies; else None."""
    match = JOB.fullmatch(name)
    return match[1] if match else None


def as_text(name: str) -> str:
    """What has a place in a file: a folder's name can be any bytes."""
    return os.fsencode(name).decode("utf-8", "replace")


def settle(found: list[Run]) -> None:
    """Makes of what each run says of itself what tells these runs apart."""
    compared = [run for run in found if run.is_compared]
    settle_choices(compared)
    settle_data(compared)


def settle_choices(compared: list[Run]) -> None:
    """A group's choice is told where all runs have it; else its `_target_` and its settings have
    to tell them apart."""
    for group in {group for run in compared for group in run.groups}:
        has_part = [run for run in compared if group in run.groups]
        if not all(group in run.settings for run in has_part):
            for run in has_part:
                run.settings.pop(group, None)


def settle_data(compared: list[Run]) -> None:
    """One `data` for each folder and for all folders in which some runs have read the same.

    The digests alone would tell too much: another split of one folder has another. A run that has
    recorded none has read what others have in its folder; where nobody has, the folder tells.
    """
    alike: dict[object, set[object]] = {}
    for run in compared:
        names = {place_of(run), run.data or place_of(run)}
        joined = names.union(*(alike.get(name, ()) for name in names))
        alike |= dict.fromkeys(joined, joined)
    for run in compared:
        run.data = min(map(str, alike[place_of(run)]))


def place_of(run: Run) -> tuple[Value, Value]:
    return run.settings.get("dataset._target_"), run.settings.get("dataset.root")


def natural(text: str) -> list[tuple[int, float, str]]:
    """A key that sorts 2_x before 10_x, and lr=0.001 before lr=0.01."""
    parts: Iterable[tuple[str, str]] = re.findall(f"({NUMBER})|([^0-9]+)", text)
    return [(0, float(number[:300]), number) if number else (1, 0.0, p) for number, p in parts]
