"""What the network makes of validation samples, for TensorBoard's projector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from dltrain.engine.callback import Callback
from dltrain.findings import is_pictures

if TYPE_CHECKING:
    from dltrain.engine.trainer import Trainer


class Embeddings(Callback):
    """When training has ended: the features of the first `num_samples` validation samples.

    `features` of the weights that are kept, averaged over space. Every model of ours has it; one
    without is shown by its logits.
    """

    def __init__(self, *, num_samples: int) -> None:
        if num_samples < 1:
            raise ValueError(f"callbacks.embeddings.num_samples is {num_samples}; it must be >= 1")
        self.num_samples = num_samples

    def on_fit_end(self, trainer: Trainer) -> None:
        """Not after a signal or an error: then the run is to go on, or to be mended."""
        over = trainer.is_last() and trainer.signal is None
        if not over or not trainer.recorder.takes("log_embeddings"):
            return
        vectors, labels, inputs = features(trainer, self.num_samples)
        if len(vectors):
            images = stretched(inputs) if is_pictures(inputs) else None
            names = [str(label) for label in labels]
            trainer.recorder.show("log_embeddings", vectors.numpy(), names, images)


@torch.no_grad()
def features(trainer: Trainer, limit: int) -> tuple[Any, list[int], Any]:
    model = trainer.eval_model
    was_training = model.training
    model.eval()
    vectors, labels, inputs, count = [torch.zeros(0)], [], [], 0
    try:
        with trainer.autocast():
            for batch in trainer.val_loader.epoch(0):
                some = batch.inputs[: limit - count]
                found = getattr(model, "features", model)(some).float()
                vectors.append((found.mean((2, 3)) if found.dim() == 4 else found.flatten(1)).cpu())
                labels += batch.targets[: len(some)].tolist()
                inputs.append(some.float().cpu())
                count += len(some)
                if count >= limit:
                    break
    finally:
        model.train(was_training)
    return torch.cat(vectors[1:] or vectors), labels, torch.cat(inputs or vectors)


def stretched(inputs: Any) -> Any:
    """Normalised [N, C, H, W] -> uint8 [N, H, W, C], from the darkest to the brightest value."""
    low, high = inputs.amin((0, 2, 3), keepdim=True), inputs.amax((0, 2, 3), keepdim=True)
    pixels = (inputs - low) / (high - low).clamp_min(1e-12) * 255
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
