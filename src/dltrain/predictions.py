"""A run and image files -> the likeliest classes of each, as a stream."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dltrain.errors import UserError
from dltrain.spreadsheet import no_formula, no_formula_path
from dltrain.trained import TrainedRun

FORMATS = (".csv", ".jsonl")


@dataclass(frozen=True)
class Prediction:
    """top: (class, probability), the likeliest first; empty where `error` says what is wrong."""

    path: str  # bytes that are no UTF-8 as os.fsdecode has them
    top: list[tuple[str, float]]
    error: str = ""


def predict_files(
    run: TrainedRun, paths: Iterable[bytes], *, top: int, num_workers: int | str
) -> Iterator[Prediction]:
    """In the order of `paths`; memory is that of a few batches, however many there are.

    num_workers: processes that decode, or `auto`.

    Raises UserError where the run is not one on images, or its preprocessing is not known.
    """
    from dltrain.data.unseen_reader import read_files
    from dltrain.data.workers import suitable_workers

    preprocessing = run.preprocessing
    if not preprocessing.is_image:
        raise UserError(
            f"this run's samples have the shape {list(preprocessing.shape)}; predict reads images\n"
            "in Python: load_run(RUN).predict(array)"
        )
    batches = read_files(
        iter(paths),
        preprocessing.unseen,
        batch_size=run.config["loader"]["eval_batch_size"],
        num_workers=num_workers if isinstance(num_workers, int) else suitable_workers(),
        channels_last=preprocessing.channels_last,
    )
    with closing(batches):  # type: ignore[type-var]  # a generator
        for paths, reasons, samples in batches:
            found = iter(top_classes(run, preprocessing.normalise(samples), top))
            for path, reason in zip(paths, reasons, strict=True):
                name = os.fsdecode(path)
                yield Prediction(name, [], reason) if reason else Prediction(name, next(found))


def top_classes(run: TrainedRun, inputs: Any, top: int) -> list[list[tuple[str, float]]]:
    if not len(inputs):
        return []
    probabilities = run.probabilities(inputs)
    values, places = probabilities.topk(min(top, probabilities.shape[1]), dim=1)
    return [
        [(class_name(run, place), value) for place, value in zip(*row, strict=True)]
        for row in zip(places.tolist(), values.tolist(), strict=True)
    ]


def class_name(run: TrainedRun, place: int) -> str:
    return run.classes[place] if place < len(run.classes) else str(place)


def paths_of(arguments: Iterable[bytes], stdin: Callable[[], Any]) -> Iterator[bytes]:
    """Files and folders; `-` stands for the list of such on standard input."""
    from dltrain.data.image_paths import expand, listed

    for argument in arguments:
        yield from expand(listed(stdin()) if argument == b"-" else [argument])


# ---------------------------------------------------------------------- output=FILE


def writer(path: Path, file: IO[str], top: int) -> Callable[[Prediction], None]:
    """A function that writes a row, by the ending of `path`."""
    if path.suffix == ".jsonl":
        return lambda prediction: write_json(file, prediction)
    rows = csv.writer(file, lineterminator="\n")
    names = [f"{name}{end}" for end in endings(top) for name in ("class", "probability")]
    rows.writerow(["path", *names, "error"])

    def write(prediction: Prediction) -> None:
        cells = [cell for name, value in prediction.top for cell in (no_formula(name), value)]
        cells += [""] * (2 * top - len(cells))
        rows.writerow([no_formula_path(prediction.path), *cells, prediction.error])

    return write


def endings(top: int) -> list[str]:
    return ["", *(f"_{place}" for place in range(2, top + 1))]


def write_json(file: IO[str], prediction: Prediction) -> None:
    row: dict[str, Any] = {"path": prediction.path}
    if prediction.error:
        row["error"] = prediction.error
    else:
        row["class"], row["probability"] = prediction.top[0]
        row["top"] = [{"class": name, "probability": value} for name, value in prediction.top]
    file.write(json.dumps(row) + "\n")  # ASCII: what is no UTF-8 stays readable
