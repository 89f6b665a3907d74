"""`dltrain export RUN`: the model as a file for other tools, compared with the run."""

from __future__ import annotations

import math
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dltrain import runs
from dltrain.build_data import read_data
from dltrain.claim import writing_to
from dltrain.commands import console
from dltrain.commands.failures import enough_memory, storage_errors
from dltrain.commands.opening import (
    Asked,
    asked_by,
    open_asked,
    read_config,
    refuse_existing,
    shown_path,
    yes_or_no,
)
from dltrain.config.near import did_you_mean
from dltrain.errors import UserError
from dltrain.exported import ENDINGS, OPSET, TOLERANCE, Export, export_run, real_samples
from dltrain.trained import TrainedRun

HELP = """\
usage: dltrain export RUN format=safetensors|torch|onnx [key=value ...] [--allow-target PACKAGE]

The model of the run in the directory RUN (or `latest`) as one file for other tools, with the
config, the preprocessing and the classes in its metadata: docs/export.md. The file is read back
and its probabilities are compared with the run's own before it gets its name.

  dltrain export latest format=onnx
  dltrain export latest format=onnx preprocess=true output=model.onnx
  dltrain export latest format=torch checkpoint=last

  format=       safetensors: the weights by name; torch: a graph of torch.export (.pt2);
                onnx: a graph of ONNX (needs dltrain[onnx])
  output=       the file; by default RUN/export/model.safetensors, .pt2 or .onnx
  overwrite=    false (the default) or true: a file that is there is replaced
  preprocess=   false (the default): normalised inputs give logits; true: pixels, uint8
                [N, H, W, C] of the network's size, give probabilities
  checkpoint=   best, last, a step, or a path; by default the weights that the run has tested
  ema=          auto (as the run evaluates), true or false: the average of the weights
  data=         true (the default): compared on samples of its dataset too, where it is at hand
  tolerance=    how far probabilities may differ (1e-5)
  task.views, trainer.threads: instead of what the run's config says
"""
OWN = (
    "format", "output", "overwrite", "preprocess", "checkpoint", "ema", "data", "tolerance",
)  # fmt: skip
CONFIG = ("task.views", "trainer.threads")
# A graph is of one device and precision: the one that runs everywhere
ON_CPU = ("trainer.device=cpu", "trainer.precision=fp32", "trainer.compile=false")
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def main(argv: list[str]) -> int:
    """Returns the exit code; raises DltrainError for what the user can mend."""
    if not argv or "-h" in argv or "--help" in argv:
        print(HELP, end="")
        return 0
    asked = asked_by("export", argv, OWN, CONFIG, example="format=onnx ")
    format = format_of(asked)
    preprocess, tolerance = yes_or_no(asked, "preprocess", False), tolerance_of(asked)
    if preprocess and format == "safetensors":
        raise UserError("preprocess=true is for graphs; choose format=torch or format=onnx")
    wanted = output_of(asked, format)
    use_data = yes_or_no(asked, "data", True)
    yes_or_no(asked, "overwrite", False)
    _ = asked.ema  # wrong before torch is imported
    asked.overrides += ON_CPU
    config = read_config(asked)
    with console.logging_to_screen(), enough_memory(), storage_errors():
        samples, why_not = inputs_of(asked, config) if use_data else (None, "")
        run = open_asked(asked, config)
        path = wanted or default_path(asked, run, format)
        home = nullcontext() if wanted else writing_to(path.parent, shared=True)
        with home:
            done = export_run(
                run,
                path,
                format=format,
                preprocess=preprocess,
                real=None if samples is None else real_samples(run, samples),
                tolerance=tolerance,
                allowed=asked.allowed,
                config=config_of(asked, config),
            )
    show(run, done, format, why_not)
    return 0


# ---------------------------------------------------------------------- what was typed


def format_of(asked: Asked) -> str:
    given = asked.own.get("format")
    if given not in ENDINGS:
        what = "is missing" if given is None else f"is {given}"
        near = did_you_mean(str(given), ENDINGS) if given else ""
        raise UserError(f"format {what}; {near or 'it must be one of ' + ', '.join(ENDINGS)}")
    lacking = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if given == "onnx" and lacking:
        raise UserError(
            f"format=onnx needs {', '.join(lacking)}: install them with pip install 'dltrain[onnx]'"
        )
    return str(given)


def tolerance_of(asked: Asked) -> float:
    text = asked.own.get("tolerance", TOLERANCE)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise UserError(f"tolerance is {text}; it must be a number >= 0 and < 1")
    return value


def output_of(asked: Asked, format: str) -> Path | None:
    text = asked.own.get("output")
    if text is None:
        return None
    path = Path(str(text))
    if path.suffix != ENDINGS[format]:
        raise UserError(
            f"output is {text}; with format={format} it must end with {ENDINGS[format]}"
        )
    if not path.parent.is_dir():
        raise UserError(f"output is {text}; there is no folder {path.parent}")
    refuse_existing(asked, path)
    return path


def default_path(asked: Asked, run: TrainedRun, format: str) -> Path:
    folder = asked.run_dir / runs.EXPORT
    name = "model" if run.weights.name == "final" else f"model_{run.weights.name}"
    path = folder / f"{name}{ENDINGS[format]}"
    refuse_existing(asked, path)
    return path


def config_of(asked: Asked, config: dict[str, Any]) -> dict[str, Any]:
    """The run's own: what it was trained on and in, and not that a graph is of the CPU in fp32."""
    stored = runs.read_config(asked.run_dir)["trainer"]
    own = {key: stored[key] for key in ("device", "precision", "compile") if key in stored}
    if not asked.typed("trainer.threads"):
        own |= {key: stored[key] for key in ("threads",) if key in stored}
    return config | {"trainer": config["trainer"] | own}


# ---------------------------------------------------------------------- data and screen


def inputs_of(asked: Asked, config: dict[str, Any]) -> tuple[Any, str]:
    """Inputs of the test set, or else of the training set; and why there are none.

    A run that was moved has no data beside it, and a stranger's may name a server: nothing is
    fetched.
    """
    if config["dataset"].get("remote") is not None:
        return None, "the dataset is not on this machine"
    try:
        splits = read_data(config, asked.allowed, for_training=False).splits
    except UserError as error:
        return None, str(error).partition("\n")[0]
    inputs = [splits[s].inputs for s in ("test", "val", "train") if len(splits[s].targets)]
    return (inputs[0], "") if inputs else (None, "it is empty")


def show(run: TrainedRun, done: Export, format: str, why_not: str) -> None:
    if run.weights.note:
        print(run.weights.note)
    kind = {"onnx": f"ONNX, opset {OPSET}", "torch": "torch.export"}.get(format, format)
    print(f"format     {kind}, {done.num_bytes:,} bytes")
    print(f"weights    {run.weights_in_words}")
    print(f"input      {done.metadata['input']}")
    print(f"output     {done.metadata['output']}")
    if why_not:
        print(f"data       not at hand ({why_not}): compared on random inputs alone")
    print(
        f"compared   {done.num_compared} samples: no probability differs by more than "
        f"{done.difference:.1e}"
    )
    print(f"written to {shown_path(done.path)}")
