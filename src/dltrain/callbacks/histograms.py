"""How weights and gradients are distributed, now and then, for TensorBoard's histograms."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dltrain.engine.callback import Callback

if TYPE_CHECKING:
    import numpy as np

    from dltrain.engine.trainer import Trainer

NUM_BUCKETS = 30  # as many as TensorBoard's own summaries have


class Histograms(Callback):
    """Logs a histogram of each parameter and of its gradient every `every` optimizer steps.

    The gradients are those that the optimizer was given: of the whole batch, unscaled, clipped.
    They are kept by hooks that exist for that step alone; any other step pays for a comparison.
    """

    def __init__(self, *, every: int) -> None:
        if every < 1:
            raise ValueError(
                f"callbacks.histograms.every is {every}; it must be >= 1, in optimizer steps"
            )
        self.every = every
        self._grads: dict[str, Tensor] = {}
        self._hooks: list[Any] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._watch(trainer)

    def after_update(self, trainer: Trainer) -> None:
        if trainer.step % self.every == 0:
            self._log(trainer)
        self._watch(trainer)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The step is known only now."""
        self._unwatch()
        self._watch(self._trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        self._unwatch()

    def _watch(self, trainer: Trainer) -> None:
        """Has the next step leave its gradients behind, if that is one to log."""
        if (trainer.step + 1) % self.every or self._hooks:
            return

        def keep(name: str) -> Any:
            def hook(param: Tensor) -> None:
                assert param.grad is not None
                self._grads[name] = param.grad  # clipped in place later, before it is read

            return hook

        self._hooks = [
            param.register_post_accumulate_grad_hook(keep(name))
            for name, param in trainer.model.named_parameters()
            if param.requires_grad
        ]

    def _unwatch(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._grads = [], {}

    def _log(self, trainer: Trainer) -> None:
        tensors = {f"weights/{name}": p.detach() for name, p in trainer.model.named_parameters()}
        tensors |= {f"gradients/{name}": grad for name, grad in self._grads.items()}
        self._unwatch()
        now = time.time()
        for name, buckets in histograms(tensors).items():
            trainer.recorder.show("log_histogram", trainer.step, name, buckets, now)


@torch.no_grad()
def histograms(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """[30, 3] each: left edge, right edge, count. Values that are not finite are left out.

    Counted on the device, and read at once: one wait. Not by torch.histc, which has no
    deterministic algorithm on CUDA.
    """
    import numpy as np

    rows = {name: row_of(tensor) for name, tensor in tensors.items() if tensor.numel()}
    if not rows:
        return {}
    found = {}
    for name, row in zip(rows, torch.stack(list(rows.values())).cpu().numpy(), strict=True):
        low, high, counts = row[0], row[1], row[2:]
        if high <= low:  # all of one value
            high, counts = low, np.append(np.zeros(NUM_BUCKETS - 1), counts.sum())
        edges = np.linspace(low, high, NUM_BUCKETS + 1)
        found[name] = np.stack([edges[:-1], edges[1:], counts], axis=1)
    return found


def row_of(tensor: Tensor) -> Tensor:
    """float64 [2 + 30]: the least and the largest value, and the counts between them."""
    values = tensor.reshape(-1).float()
    finite = values.isfinite()
    low = values.where(finite, torch.inf).min()
    high = values.where(finite, -torch.inf).max()
    place = ((values - low) / (high - low) * NUM_BUCKETS).nan_to_num(0.0, 0.0, 0.0)
    counts = torch.zeros(NUM_BUCKETS, dtype=torch.int64, device=values.device)
    counts.index_add_(0, place.long().clamp_(0, NUM_BUCKETS - 1), finite.long())
    low, high = low.nan_to_num(posinf=0.0), high.nan_to_num(neginf=0.0)
    return torch.cat([torch.stack([low, high]).double(), counts.double()])
