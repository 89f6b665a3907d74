"""A run's directory -> its model, its preprocessing, its classes and what it has recorded."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain import build, runs
from dltrain.config.check import check
from dltrain.config.schema import device as device_rule
from dltrain.errors import DltrainError, UserError
from dltrain.stored import stored_config

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dltrain.data.preprocess import Preprocess
    from dltrain.engine.choose_weights import Weights

log = logging.getLogger("dltrain")
EMA = "dltrain.callbacks.ema.EMA"
MAX_NAME = 200


@dataclass(frozen=True)
class TrainedRun:
    """A run that can be used: `model` is in evaluation mode, on `device`.

    config: as checked, plain. classes: names, in the order of the logits; numbers where the run
    has recorded none. weights: which they are, of which step.
    """

    path: Path
    config: dict[str, Any]
    model: nn.Module
    task: Any
    classes: list[str]
    device: torch.device
    weights: Weights
    autocast: Callable[[], Any] = field(repr=False)

    def __repr__(self) -> str:
        return f"TrainedRun({str(self.path)!r}, {self.weights.name}, {len(self.classes)} classes)"

    @property
    def weights_in_words(self) -> str:
        """`final (step 140, best)`, `step-00000040_ema, the average of the weights (EMA)`."""
        words = self.weights.name
        if words == "final" and self.weights.step is not None:
            words += f" (step {self.weights.step:,}, {self.config['checkpoint']['final']})"
        return f"{words}, the average of the weights (EMA)" if self.weights.ema else words

    @property
    def views(self) -> str | None:
        """Of each image that are looked at (`task.views`); None where it is the image alone."""
        views = self.config["task"].get("views")
        return None if views == "none" else views

    @property
    def summary(self) -> dict[str, Any]:
        """`summary.json`: status, best, last and test metrics, speed."""
        return runs.read_json(self.path / runs.SUMMARY)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, in order: `pandas.DataFrame(run.metrics)`."""
        return list(runs.read_rows(self.path))

    @cached_property
    def preprocessing(self) -> Preprocess:
        """Raises UserError where config.yaml does not say what it is."""
        from dltrain.data.preprocess import Preprocess

        try:
            return Preprocess(self.config["dataset"], self.device)
        except ValueError as error:
            raise UserError(str(error)) from error

    def preprocess(self, images: Any) -> torch.Tensor:
        """float32 [n, C, H, W] on `device`, normalised: what validation makes of such images.

        images: one, or any number: paths of files, Pillow's images, uint8 arrays [H, W], [H, W, 3],
        or [C, H, W] of the dataset's own shape. For a run on plain features, numbers [n, F] or [F],
        as its dataset holds them. Raises UserError, which names a file that is bad.
        """
        try:
            return self.preprocessing(images)
        except ValueError as error:
            raise UserError(str(error)) from error

    def predict(self, images: Any) -> torch.Tensor:
        """Probabilities, float32 [n, K] on the CPU, as evaluation computes them (`task.views`).

        Any number of images, or what yields them: `loader.eval_batch_size` are taken at a time.
        """
        import torch

        size = self.config["loader"]["eval_batch_size"]
        try:
            parts = self.preprocessing.parts(images, size)
        except ValueError as error:
            raise UserError(str(error)) from error
        found = [self.probabilities(self.preprocess(part)) for part in parts]
        return torch.cat(found) if found else torch.empty(0, len(self.classes))

    def probabilities(self, inputs: torch.Tensor) -> torch.Tensor:
        """Of a preprocessed batch."""
        import torch

        predict = getattr(self.task, "predict", None) or (lambda model, inputs: model(inputs))
        with torch.no_grad(), self.autocast():
            logits = predict(self.model, inputs)
        return logits.float().softmax(1).cpu()


def load_run(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    checkpoint: str | int | None = None,
    ema: bool | None = None,
    allow_target: Sequence[str] = (),
) -> TrainedRun:
    """The run in the directory `path`, or `latest`.

    device: `auto`, `cpu`, `cuda`, `cuda:1`. checkpoint: by default the weights that the run has
    tested (`model.safetensors`), and of one that has not ended its newest good checkpoint; or
    `best`, `last`, a step, a path. ema: whether the average of the weights is meant, where the run
    keeps one; by default as the run evaluates. allow_target: packages of your own that the run's
    config names.

    Raises DltrainError: UserError for what is no run, CheckpointError where the weights demanded
    are not usable.
    """
    run_dir = runs.find_run(os.fspath(path)).absolute()  # a notebook changes its folder
    runs.refuse_links(run_dir)
    config = check(stored_config(run_dir), allowed=allow_target)
    if ema not in (None, True, False):
        raise UserError(f"ema is {ema!r}; it must be True, False or None")
    if wrong := device_rule(device):
        raise UserError(f"device is {device!r}; {wrong}")
    config["trainer"]["device"] = device
    wanted = None if checkpoint is None else str(checkpoint)
    run = open_run(run_dir, config, checkpoint=wanted, ema=ema, allowed=allow_target)
    if run.weights.note:
        log.warning("%s", run.weights.note)
    return run


def open_run(
    run_dir: Path,
    config: dict[str, Any],
    *,
    checkpoint: str | None = None,
    ema: bool | None = None,
    allowed: Sequence[str] = (),
) -> TrainedRun:
    """The run with a config that was read and checked."""
    from dltrain.engine.choose_weights import choose_weights
    from dltrain.engine.device import choose_device, choose_precision, make_autocast

    try:
        device = choose_device(config["trainer"]["device"])
        precision = config["trainer"]["precision"]
        if device.type == "cpu" and precision in ("fp16", "tf32"):
            precision = "fp32"  # what it was trained in is not to be had here
        precision = choose_precision(precision, device)
        weights = choose_weights(shelf_of(run_dir, config), checkpoint, ema)
        if weights.name == "final":
            weights = replace(weights, step=tested_step(run_dir, config))
        model = make_fitting(config, device, weights, allowed)
        task = build.make(config, "task", allowed=allowed)
    except RuntimeError as error:
        raise DltrainError(f"the model cannot be made: {first_line(error)}") from error
    return TrainedRun(
        path=run_dir,
        config=config,
        model=model.eval(),
        task=task,
        classes=class_names(run_dir, config),
        device=device,
        weights=weights,
        autocast=make_autocast(precision, device),
    )


def make_model(config: dict[str, Any], device: torch.device, allowed: Sequence[str]) -> nn.Module:
    """Its first weights are thrown away: the generators are left as they were found."""
    import torch

    with torch.random.fork_rng(devices=[]):
        return build.make_model(config | {"init_from": None}, device, allowed)


def make_fitting(
    config: dict[str, Any], device: torch.device, weights: Weights, allowed: Sequence[str]
) -> nn.Module:
    """Raises UserError for a model that there is no room for, whatever its weights are."""
    from dltrain.engine.choose_weights import load

    try:
        model = make_model(config, device, allowed)
    except (RuntimeError, MemoryError) as error:
        if "alloc" not in str(error) and not isinstance(error, MemoryError):
            raise
        raise UserError(
            f"there is no room for the model of the run's {runs.CONFIG}: {first_line(error)}"
        ) from error
    load(model, weights)
    return model


def shelf_of(run_dir: Path, config: dict[str, Any]) -> Any:
    from dltrain.engine.choose_weights import Shelf

    settings = config["checkpoint"]
    callbacks = config["callbacks"] or {}
    summary = runs.read_if_whole(run_dir / runs.SUMMARY)
    return Shelf(
        run_dir=run_dir,
        folder=run_dir / runs.CHECKPOINTS,
        monitor=settings["monitor"],
        mode=settings["mode"],
        final=settings["final"],
        completed=summary.get("status") == "completed",
        ema=next((name for name, node in callbacks.items() if node["_target_"] == EMA), None),
        sha256=summary.get(runs.DIGEST),
    )


def tested_step(run_dir: Path, config: dict[str, Any]) -> int | None:
    """Of which step the weights are that the run has tested; None where it does not say."""
    summary = runs.read_if_whole(run_dir / runs.SUMMARY)
    best = summary.get("best") if config["checkpoint"]["final"] == "best" else None
    step = (best or summary).get("step")
    return step if summary.get("status") == "completed" and runs.is_count(step) else None


def class_names(run_dir: Path, config: dict[str, Any]) -> list[str]:
    """As training recorded them, where they can be meant; otherwise their numbers."""
    count = config["model"].get("num_classes", config["dataset"].get("num_classes"))
    names = runs.read_if_whole(run_dir / runs.RECORD).get("classes")
    count = count if isinstance(count, int) else len(names or ())
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        names = []
    names = [name[:MAX_NAME].encode("utf-8", "replace").decode() for name in names[:count]]
    return names + [str(number) for number in range(len(names), count)]


def first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]
