"""The model as a graph of operations, for TensorBoard's Graphs tab."""

from __future__ import annotations

import copy
import logging
import time
import warnings
from typing import TYPE_CHECKING, Any

import torch

from dltrain.engine.callback import Callback

if TYPE_CHECKING:
    from dltrain.engine.trainer import Trainer

log = logging.getLogger("dltrain")


class Graph(Callback):
    """Traces the model on one sample when a run has begun, once: 0.5 s and more, and kilobytes.

    A copy is traced, in evaluation mode: neither weights nor random numbers of the run are
    touched. A model that cannot be traced is said to be, and trained.
    """

    def __init__(self) -> None:
        self._is_done = False

    def on_log(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """At the first row: by then loggers are open, and it is known whether a run goes on."""
        if self._is_done:
            return
        self._is_done = True
        if not trainer.recorder.takes("log_graph"):
            return
        # Not of the loader that training is reading, where there is another
        idle = trainer.val_loader if trainer.val_loader.num_samples else trainer.train_loader
        sample = next(idle.epoch(0)).inputs[:1]
        try:
            graph = trace(trainer.model, sample)
        except Exception as error:  # tracing runs any model's code in a way it was not made for
            reason = " ".join(str(error).split())[:200]
            log.warning("callbacks.graph: the model cannot be traced: %s", reason)
            return
        trainer.recorder.show("log_graph", graph, time.time())

    def state_dict(self) -> dict[str, Any]:
        return {"is_done": self._is_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._is_done = self._is_done or bool(state["is_done"])  # the best weights are older


def trace(model: torch.nn.Module, sample: torch.Tensor) -> bytes:
    """A serialized GraphDef, as torch.utils.tensorboard makes it."""
    import contextlib
    import io

    from torch.utils.tensorboard._pytorch_graph import graph  # 0.3 s

    still = copy.deepcopy(model).eval()  # what `compile` has made of it is not copied
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and what replaces it has no tab
        definition, _ = graph(still, (sample,))
    data: bytes = definition.SerializeToString()
    return data
