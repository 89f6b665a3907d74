"""Weights to start from: a safetensors file, a checkpoint, a run, or a .pth of another tool."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dltrain.engine.checkpoint import MODEL
from dltrain.engine.pth import read_pth
from dltrain.engine.tensors import read_tensors
from dltrain.errors import UserError

log = logging.getLogger("dltrain")


def load_weights(model: nn.Module, path: Path) -> None:
    """Loads `path` into `model`; raises UserError, naming what does not fit.

    A model may have `rename_weights(state_dict)`, which maps the names of a reference
    implementation to its own. Where only the head differs in shape (another number of classes), it
    keeps its initialisation, and that is said.
    """
    weights = read_weights(path)
    rename: Any = getattr(model, "rename_weights", None)
    if rename is not None:
        weights = rename(weights)
    own = model.state_dict()
    shared = sorted(own.keys() & weights.keys(), key=lambda name: name.startswith("head."))
    wrong = [name for name in shared if own[name].shape != weights[name].shape]
    if wrong and all(name.startswith("head.") for name in wrong):
        head = [name for name in own if name.startswith("head.") and name in weights]
        log.info(
            "init_from: %s have other shapes and keep their initialisation", ", ".join(sorted(head))
        )
        weights |= {name: own[name] for name in head}
    elif wrong:
        shapes = (
            f"{list(weights[wrong[0]].shape)} in the file, {list(own[wrong[0]].shape)} in the model"
        )
        raise UserError(f"init_from {path}: {wrong[0]} has the shape {shapes}")
    missing, unknown = own.keys() - weights.keys(), weights.keys() - own.keys()
    missing = {name for name in missing if not name.endswith("num_batches_tracked")}
    if missing or unknown:
        parts = [
            f"{len(names)} {what} ({', '.join(sorted(names)[:3])}, ...)"
            for names, what in ((missing, "are missing"), (unknown, "are not in the model"))
            if names
        ]
        raise UserError(
            f"init_from {path} does not fit the model: of its weights {' and '.join(parts)}"
        )
    model.load_state_dict(weights, strict=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a .safetensors file, a folder that holds one, or a .pth without code."""
    if path.is_dir():
        path = path / MODEL
    if not path.is_file():
        raise UserError(f"init_from: there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            return read_tensors(path)
        loaded = read_pth(path)
    except Exception as error:  # a damaged or hostile file fails in as many ways as there are bytes
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"init_from: {path} cannot be read: {reason}\n"
            "it must be a .safetensors, a run, or a .pth of tensors by name (a state dict)"
        ) from error
    state: Any = loaded if isinstance(loaded, dict) else {}
    for key in ("state_dict", "model"):  # where training scripts keep it beside their own numbers
        state = state[key] if isinstance(state.get(key), dict) else state
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"init_from: {path} holds no weights by name (a state dict)")
    return tensors
