"""A run and a dataset -> metrics of a split, by class and by confidence, and their files."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain import plain, runs
from dltrain.build_data import Data
from dltrain.build_loaders import make_loader, placement
from dltrain.claim import OLD, writing_to
from dltrain.durable import irregular, remove, sync_folder, write_parts
from dltrain.errors import UserError
from dltrain.findings import Watched, can_be_examined
from dltrain.spreadsheet import no_formula
from dltrain.trained import TrainedRun

if TYPE_CHECKING:
    from dltrain.interpret.report import Report

METRICS, PER_CLASS, CONFUSION = "metrics.json", "per_class.csv", "confusion.csv"
CONFUSION_PICTURE, RELIABILITY = "confusion.png", "reliability.png"
MAX_FOLDERS = 1000
SEEN = "{} as it is"  # the name under which a split is neither shuffled nor augmented


@dataclass(frozen=True)
class Evaluation:
    """metrics: those of the task first. report: None of a task that does not show its logits."""

    split: str
    num_samples: int
    metrics: dict[str, float]
    report: Report | None


def evaluate_run(
    run: TrainedRun,
    data: Data,
    split: str,
    *,
    allowed: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Every sample of `split` once, as at the end of training. Raises UserError if it has none."""
    from dltrain.engine.evaluate import evaluate
    from dltrain.interpret.report import make_report
    from dltrain.interpret.tally import Tally

    if not len(data.splits[split].targets):
        there = ", ".join(name for name, part in data.splits.items() if len(part.targets))
        other = there.split(", ")[-1]
        raise UserError(
            f"split is {split}, of which the dataset has no samples; it has {there}: "
            f"type split={other}"
        )
    place = placement(run.config, data, run.device)
    seen = Data(data.dataset, data.splits | {SEEN.format(split): data.splits[split]})
    loader = make_loader(
        run.config, seen, SEEN.format(split), run.device, place, allowed=allowed, progress=progress
    )
    tally = Tally()
    task: Any = run.task
    watched = can_be_examined(task)
    try:
        if watched:
            task = Watched(task, lambda logits, batch: tally.add(logits, batch.targets))
        metrics = evaluate(run.model, task, loader, autocast=run.autocast)
    finally:
        loader.close()
    report = make_report(tally.read()) if watched else None
    found = metrics | (report.metrics if report else {})
    return Evaluation(split, loader.num_samples, found, report)


# ---------------------------------------------------------------------- the files


def write(run: TrainedRun, evaluation: Evaluation, settings: dict[str, Any]) -> tuple[Path, str]:
    """Leaves `RUN/evaluation/SPLIT_WEIGHTS/`, whole or not at all; the folder, and what it lacks.

    The same evaluation again takes the place of the old one; another one, of the same split and
    weights but with other `settings`, gets a number behind its name.
    """
    home = run.path / runs.EVALUATION
    files, lacking = contents(run, evaluation, settings)
    with writing_to(home):
        final = free_name(home, folder_name(run, evaluation, settings), settings)
        temporary = home / f".{final.name}.{os.getpid()}.tmp"
        try:
            temporary.mkdir()
            for name, content in files.items():
                write_parts(temporary / name, [content])
            replace_folder(final, temporary)
        finally:
            if temporary.exists():
                remove(temporary)
    return final, lacking


def folder_name(run: TrainedRun, evaluation: Evaluation, settings: dict[str, Any]) -> str:
    """`test_final`; where other views than the run's own were asked for, with their name."""
    typed = any(text.lstrip("+").startswith("task.views=") for text in settings["overrides"])
    views = [f"views-{run.config['task']['views']}"] if typed else []
    return "_".join([evaluation.split, run.weights.name, *views])


def replace_folder(path: Path, new: Path) -> None:
    """`new` gets the name; what had it goes, or has it still where that failed."""
    old = path.with_name(f".{path.name}{OLD}")
    was_there = os.path.lexists(path)
    if was_there:
        remove(old)  # where nothing can be locked, nothing is cleared
        os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        if was_there:
            os.rename(old, path)
        raise
    sync_folder(path.parent)
    if was_there:
        remove(old)


def free_name(home: Path, name: str, settings: dict[str, Any]) -> Path:
    for number in range(1, MAX_FOLDERS + 1):
        path = home / (name if number == 1 else f"{name}_{number}")
        if not os.path.lexists(path) or stored_settings(path) == json.loads(json.dumps(settings)):
            return path
    raise UserError(f"{home} holds {MAX_FOLDERS:,} evaluations of {name}; remove some of them")


def stored_settings(path: Path) -> Any:
    with suppress(*plain.PLAIN_ERRORS):
        if irregular(path) is None:
            data = plain.read_json(path / METRICS)
            return data.get("settings") if isinstance(data, dict) else None
    return None


def contents(
    run: TrainedRun, evaluation: Evaluation, settings: dict[str, Any]
) -> tuple[dict[str, bytes], str]:
    report = evaluation.report
    summary = {
        "split": evaluation.split,
        "num_samples": evaluation.num_samples,
        "weights": run.weights.name,
        "step": run.weights.step,
        "ema": run.weights.ema,
        "metrics": evaluation.metrics,
        "calibration": calibration(report) if report else None,
        "settings": settings,
    }
    text = json.dumps(runs.finite(summary), indent=2, allow_nan=False) + "\n"
    files = {METRICS: text.encode()}
    if report is None:
        return files, "the task does not show its logits: no counts by class"
    classes = class_labels(run, report)
    files[PER_CLASS] = table(["class", *COLUMNS], per_class_rows(report, classes))
    if report.confusion is not None:
        rows = zip(classes, *report.confusion.T.tolist(), strict=True)
        files[CONFUSION] = table(["true \\ predicted", *classes], rows)
    pictures, lacking = draw(run, evaluation)
    return files | pictures, lacking


COLUMNS = ("precision", "recall", "f1", "samples")


def class_labels(run: TrainedRun, report: Report) -> list[str]:
    """A name for each logit: a model may have more of them than there are classes."""
    count = len(report.support)
    return [*run.classes[:count], *map(str, range(len(run.classes), count))]


def per_class_rows(report: Report, classes: Sequence[str]) -> list[list[Any]]:
    columns = [
        each.tolist() for each in (report.precision, report.recall, report.f1, report.support)
    ]
    rows = zip(classes, *columns, strict=True)
    return [["" if value != value else value for value in row] for row in rows]  # NaN


def calibration(report: Report) -> list[dict[str, Any]]:
    columns = (report.bin_count, report.bin_confidence, report.bin_accuracy)
    names = ("samples", "confidence", "accuracy")
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def table(head: Sequence[str], rows: Any) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for row in (head, *rows):
        writer.writerow([no_formula(cell) if isinstance(cell, str) else cell for cell in row])
    return file.getvalue().encode(errors="backslashreplace")


def draw(run: TrainedRun, evaluation: Evaluation) -> tuple[dict[str, bytes], str]:
    """The pictures, and what to say where there are none."""
    from dltrain.interpret.plots import MISSING, draw_confusion, draw_reliability

    report = evaluation.report
    assert report is not None
    views = f", views {run.views}" if run.views else ""
    title = f"{run.path.name}\n{evaluation.split}, {run.weights_in_words}{views}"
    try:
        pictures = {RELIABILITY: draw_reliability(report, title)}
    except ImportError:
        return {}, MISSING
    if report.confusion is None:
        return pictures, f"{len(report.support):,} classes are too many for a confusion matrix"
    classes = class_labels(run, report)
    return pictures | {CONFUSION_PICTURE: draw_confusion(report.confusion, classes, title)}, ""
