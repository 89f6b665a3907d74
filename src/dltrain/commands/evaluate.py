"""`dltrain evaluate RUN`: metrics of a run's weights, by class and by confidence."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from dltrain import runs
from dltrain.build_data import Data, read_data
from dltrain.commands import console
from dltrain.commands.failures import enough_memory, storage_errors
from dltrain.commands.opening import (
    Asked,
    asked_by,
    open_asked,
    read_config,
    shown_path,
)
from dltrain.errors import UserError
from dltrain.evaluation import Evaluation, class_labels, evaluate_run, write
from dltrain.trained import TrainedRun

HELP = """\
usage: dltrain evaluate RUN [key=value ...] [--allow-target PACKAGE]

Loss, accuracy, precision, recall and F1 by class, calibration and confusion matrix of the run in
the directory RUN (or `latest`), to the screen and to RUN/evaluation/: docs/evaluate.md.

  dltrain evaluate latest
  dltrain evaluate latest checkpoint=last split=val
  dltrain evaluate latest dataset.root=/data/mnist              # the data has moved
  dltrain evaluate latest dataset=image_folder dataset.root=photos loader.eval_batch_size=50

  checkpoint=   best, last, a step, or a path; by default `final`, the weights that the run has
                tested (checkpoint.final: its best or its last)
  split=        test (the default), val or train
  ema=          auto (as the run evaluates), true or false: the average of the weights
  dataset=, dataset.*, loader.*, task.views, trainer.device, precision, threads, compile,
                deterministic: instead of what the run's config says
"""
SPLITS = ("test", "val", "train")
OWN = ("checkpoint", "split", "ema")
CONFIG = (
    "dataset", "dataset.", "loader.", "task.views", "trainer.device", "trainer.precision",
    "trainer.threads", "trainer.compile", "trainer.deterministic",
)  # fmt: skip
# What changes neither the samples that are counted nor what is counted of them
FREE = (
    "loader.batch_size", "loader.eval_batch_size", "loader.num_workers", "loader.placement",
    "loader.drop_last", "trainer.device", "trainer.threads",
)  # fmt: skip
MAX_SHOWN = 20  # classes on the screen; of more the worst
MAX_CONFUSED = 3  # pairs


def main(argv: list[str]) -> int:
    """Returns the exit code; raises DltrainError for what the user can mend."""
    if not argv or "-h" in argv or "--help" in argv:
        print(HELP, end="")
        return 0
    asked = asked_by("evaluate", argv, OWN, CONFIG)
    split = asked.own.get("split", "test")
    if split not in SPLITS:
        raise UserError(f"split is {split}; it must be one of {', '.join(SPLITS)}")
    _ = asked.ema  # wrong before torch is imported
    config = read_config(asked)
    with storage_errors():
        data = data_of(asked, config)
    with console.logging_to_screen(), enough_memory(), storage_errors():
        run = open_asked(asked, config)
        check_same_classes(asked, run, data)
        for note in getattr(data.dataset, "notes", ()):
            console.say("", note)
        evaluation = evaluate_run(
            run, data, split, allowed=asked.allowed, progress=console.progress()
        )
        try:  # first the files: whoever reads the screen may go
            folder, lacking = write(run, evaluation, settings_of(asked, run))
        finally:  # nor is an evaluation lost with a full disk
            show(asked, run, evaluation)
    if lacking:
        print(lacking)
    print(f"written to {shown_path(folder)}")
    return 0


def data_of(asked: Asked, config: dict[str, Any]) -> Data:
    """As the run has read it: `loader.limit_batches` counts batches of the run's own size."""
    sizes = {key: asked.loader[key] for key in ("batch_size", "eval_batch_size")}
    as_trained = config | {"loader": config["loader"] | sizes}
    try:
        return read_data(as_trained, asked.allowed, console.progress(), for_training=False)
    except UserError as error:
        if "root" in config["dataset"] and not asked.typed("dataset.root"):
            raise UserError(f"{error}\nif the data has moved: dataset.root=FOLDER") from error
        raise


def check_same_classes(asked: Asked, run: TrainedRun, data: Data) -> None:
    """Numbers about other classes, or the same in another order, would be numbers about nothing."""
    if not any(asked.typed(key) for key in ("dataset", "dataset.root", "dataset.num_classes")):
        return
    theirs, ours = [str(each)[:100] for each in getattr(data.dataset, "classes", ())], run.classes
    recorded = runs.read_if_whole(asked.run_dir / runs.RECORD).get("classes")
    if data.dataset.num_classes > len(ours):
        raise UserError(
            f"the dataset has {data.dataset.num_classes} classes, the run {len(ours)}; "
            "evaluate it on the classes that it has learned"
        )
    if not recorded or not theirs or ours[: len(theirs)] == theirs:
        return
    number = next(i for i, pair in enumerate(zip(ours, theirs, strict=False)) if len(set(pair)) > 1)
    raise UserError(
        f"class {number} is {theirs[number]!r} in the dataset, and {ours[number]!r} in the run\n"
        "evaluate it on the classes that it has learned, in their order"
    )


def settings_of(asked: Asked, run: TrainedRun) -> dict[str, Any]:
    """What tells this evaluation from others of the same weights and split.

    A checkpoint of the run itself has its step in the folder's name, however it was named.
    """
    kept = [t for t in asked.overrides if t.lstrip("+").partition("=")[0] not in FREE]
    wanted = asked.checkpoint
    own = (run.path / runs.CHECKPOINTS).resolve()
    is_path = wanted is not None and wanted not in ("best", "last") and not wanted.isdecimal()
    if not is_path or Path(str(wanted)).resolve().parent == own:
        wanted = None
    return {"overrides": sorted(kept), "checkpoint": wanted}


# ---------------------------------------------------------------------- the screen


def show(asked: Asked, run: TrainedRun, evaluation: Evaluation) -> None:
    if run.weights.note:
        print(run.weights.note)
    print(f"weights    {run.weights_in_words}")
    if run.views:
        print(f"views      {run.views}")
    print(f"split      {evaluation.split}, {evaluation.num_samples:,} samples")
    for name, value in evaluation.metrics.items():
        print(f"{name:<18} {in_words(name, value):>10}")
    say_whether_it_agrees(asked, run, evaluation)
    if evaluation.report is None:
        return
    classes = class_labels(run, evaluation.report)
    print()
    for line in class_table(evaluation, classes):
        print(line)
    mistakes = evaluation.report.most_confused(MAX_CONFUSED)
    if mistakes:
        print()
    for truth, taken, count in mistakes:
        print(f"{cut(classes[truth], 25)} taken for {cut(classes[taken], 25)}: {count:,}")


def in_words(name: str, value: float) -> str:
    return f"{value:.6f}" if name == "loss" else f"{value:.2%}"


def say_whether_it_agrees(asked: Asked, run: TrainedRun, evaluation: Evaluation) -> None:
    """With what training has said of the same weights and data, where it has."""
    tested = runs.read_if_whole(asked.run_dir / runs.SUMMARY).get("test")
    comparable = evaluation.split == "test" and run.weights.name == "final"
    if not comparable or asked.overrides or not isinstance(tested, dict):
        return
    other = [
        f"{name} {value!r}" for name, value in tested.items()
        if name in evaluation.metrics and evaluation.metrics[name] != value
    ]  # fmt: skip
    print(
        f"at the end of training it was {', '.join(other)}" if other
        else "the same as at the end of training"
    )  # fmt: skip


def class_table(evaluation: Evaluation, classes: list[str]) -> list[str]:
    """As wide as the terminal, through a pipe 80: a narrow one cuts the names."""
    report = evaluation.report
    assert report is not None
    order = list(range(len(classes)))
    left_out = len(order) - MAX_SHOWN
    if left_out > 0:
        order = sorted(order, key=lambda i: (nan_first(float(report.f1[i])), i))[:MAX_SHOWN]
    width = min(shutil.get_terminal_size((80, 24)).columns, 80)
    columns = {"precision": report.precision, "recall": report.recall} if width >= 50 else {}
    columns["F1"] = report.f1
    names = [cut(classes[i], max(5, width - 10 * (len(columns) + 1))) for i in order]
    column = max([5, *map(len, names)])
    lines = ["".join([f"{'class':<{column}}", *(f"{each:>10}" for each in [*columns, "samples"])])]
    for i, name in zip(order, names, strict=True):
        cells = [f"{rate(float(values[i])):>10}" for values in columns.values()]
        lines.append("".join([f"{name:<{column}}", *cells, f"{report.support[i]:>10,}"]))
    if left_out > 0:
        lines.append(f"and {left_out:,} classes with a better F1: per_class.csv")
    return lines


def nan_first(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def rate(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2%}"


def cut(name: str, limit: int) -> str:
    """A stranger's name, fit for a screen."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."
