"""Which weights of a run are meant: those that it has tested, its best, its last, any of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dltrain.durable import check_digest
from dltrain.engine.checkpoint import (
    MODEL,
    Checkpoint,
    DamagedError,
    by_value,
    read_checkpoint,
    steps_in,
)
from dltrain.engine.tensors import read_tensors
from dltrain.errors import CheckpointError, UserError

log = logging.getLogger("dltrain")


@dataclass(frozen=True)
class Weights:
    """Tensors by name, and where they are from."""

    name: str  # fit for the name of a file: `final`, `step-00001200`, `step-00001200_ema`
    step: int | None
    ema: bool
    tensors: dict[str, Tensor]
    note: str = ""  # what the user should know of this choice


@dataclass(frozen=True)
class Shelf:
    """Where a run's weights lie, and how it rates them."""

    run_dir: Path
    folder: Path  # of its checkpoints
    monitor: str
    mode: str
    final: str  # best or last: what it tests
    completed: bool
    ema: str | None  # the name of its EMA among its callbacks
    sha256: str | None = None  # of the weights that it has tested, where it has recorded it


def choose_weights(shelf: Shelf, wanted: str | None, ema: bool | None) -> Weights:
    """wanted: None, `best`, `last`, a step, or the path of a checkpoint or a .safetensors.

    None is what the run has tested, and of one that has not come so far its newest good checkpoint.
    ema: whether its average is meant; None where there is one. Raises UserError for what cannot be
    meant, and CheckpointError where what was demanded is not usable.
    """
    if ema and shelf.ema is None:
        raise UserError("ema is true, but the run has no average of its weights (callbacks.ema)")
    if wanted is None and not (ema is False and shelf.ema is not None):
        weights = tested_weights(shelf)
        if weights is not None:
            return weights
    note = ""
    if wanted is None and shelf.completed:
        checkpoint = read(find(shelf, shelf.final))
    elif wanted is None:
        checkpoint = newest_good(shelf)
        note = (
            f"the run has not ended: this is its newest good checkpoint, step {checkpoint.step:,}"
        )
    elif (file := Path(wanted)).suffix == ".safetensors":
        return from_file(file, ema)
    else:
        checkpoint = read(find(shelf, wanted))
    return of_checkpoint(shelf, checkpoint, ema, note)


def tested_weights(shelf: Shelf) -> Weights | None:
    """`model.safetensors`, where it is of the run as it is now; or all that there is."""
    path = shelf.run_dir / MODEL
    if not path.is_file() or (not shelf.completed and steps_in(shelf.folder)):
        return None
    try:
        check_digest(path, shelf.sha256)
        return Weights("final", None, shelf.ema is not None, read_tensors(path))
    except (OSError, ValueError) as error:
        cure = "checkpoint=best or checkpoint=last" if steps_in(shelf.folder) else "no checkpoint"
        raise CheckpointError(f"{path} cannot be read: {error}\nleft is {cure}") from error


def from_file(path: Path, ema: bool | None) -> Weights:
    if ema is not None:
        raise UserError(
            f"ema is for the checkpoints of a run; {path} holds its weights and no more"
        )
    if file_is_special(path):
        raise CheckpointError(f"{path} cannot be read: it is not a file")
    try:
        return Weights(f"file-{path.stem[:60]}", None, False, read_tensors(path))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def file_is_special(path: Path) -> bool:
    """A pipe would be waited for."""
    return path.exists() and not path.is_file()


def find(shelf: Shelf, wanted: str) -> Path:
    paths = steps_in(shelf.folder)
    if wanted == "best":
        paths = by_value(shelf.folder, shelf.monitor, shelf.mode)
        # a run without a validation set has none, and tests its last
        paths = paths or steps_in(shelf.folder)[-1:]
        if not paths:
            raise nothing_in(shelf)
        return paths[0]
    if wanted == "last":
        if not paths:
            raise nothing_in(shelf)
        return paths[-1]
    if wanted.isdecimal():
        for path in paths:
            if int(path.name[5:]) == int(wanted):
                return path
        there = ", ".join(str(int(path.name[5:])) for path in paths[-5:]) or "none"
        raise CheckpointError(f"there is no checkpoint of step {wanted}; the newest are: {there}")
    if wanted.strip() and Path(wanted).is_dir():
        return Path(wanted)
    raise UserError(
        f"checkpoint is {wanted!r}; it must be best, last, a step, or the path of a "
        "checkpoint or of a .safetensors"
    )


def read(path: Path) -> Checkpoint:
    try:
        return read_checkpoint(path)
    except DamagedError as error:
        raise CheckpointError(
            f"checkpoint {path.name} is damaged: {error}\nchoose another: checkpoint=STEP"
        ) from error


def newest_good(shelf: Shelf) -> Checkpoint:
    """Of a run that may be training at this moment: what was there a moment ago may be gone."""
    for path in reversed(steps_in(shelf.folder)):
        try:
            return read_checkpoint(path)
        except DamagedError as error:
            log.warning("checkpoint %s is damaged: %s", path.name, error)
    raise nothing_in(shelf)


def nothing_in(shelf: Shelf) -> CheckpointError:
    return CheckpointError(f"there is no usable checkpoint in {shelf.folder}, and no {MODEL}")


def of_checkpoint(shelf: Shelf, checkpoint: Checkpoint, ema: bool | None, note: str) -> Weights:
    name = f"step-{checkpoint.step:08d}"
    average = stored_average(checkpoint, shelf.ema) if shelf.ema and ema is not False else None
    if average is None and ema:
        raise CheckpointError(f"checkpoint {checkpoint.path.name} holds no average of the weights")
    if average is None:
        return Weights(name, checkpoint.step, False, checkpoint.model, note)
    return Weights(f"{name}_ema", checkpoint.step, True, average, note)


def stored_average(checkpoint: Checkpoint, name: str) -> dict[str, Tensor] | None:
    state: Any = checkpoint.state
    for key in ("callbacks", name, "model"):
        state = state.get(key) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(each, Tensor) for each in state.values()):
        return None
    return state or None


def load(model: nn.Module, weights: Weights) -> None:
    """Into `model`, every tensor of it. Raises CheckpointError where they are of another."""
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    persistent = model.state_dict().keys()
    missing = sorted((persistent & own.keys()) - weights.tensors.keys())  # shared ones count once
    unknown = sorted(weights.tensors.keys() - own.keys() - persistent)
    wrong = [
        name
        for name, tensor in weights.tensors.items()
        if name in own and own[name].shape != tensor.shape
    ]
    for names, what in ((missing, "lack"), (unknown, "have an unknown"), (wrong, "misfit in")):
        if names:
            raise CheckpointError(
                f"the weights ({weights.name}) are not of this run's model: they {what} {names[0]} "
                f"({len(names)} such)"
            )
    kept = {name: tensor for name, tensor in weights.tensors.items() if name in persistent}
    model.load_state_dict(kept, strict=False)
    for name in weights.tensors.keys() - kept.keys():  # of an average: buffers that are not saved
        own[name].data.copy_(weights.tensors[name])
