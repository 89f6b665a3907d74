"""An exponential moving average of the weights, for evaluation."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dltrain.engine.callback import Callback

if TYPE_CHECKING:
    from dltrain.engine.trainer import Trainer


class EMA(Callback):
    """Makes `trainer.eval_model` the average of the weights; training does not see it.

    After each optimizer step: average = decay * average + (1 - decay) * weights; the first one
    copies. As `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn`, but float buffers
    (the statistics of batch norm) are averaged like weights, as in timm's `ModelEmaV3` and
    torchvision's references, since the average of the weights has other statistics than the last
    weights. Integer buffers are copied. A submodule must not replace its buffers by new tensors.

    Args:
        decay: in (0, 1), of one optimizer step whatever `every` is: 0.999 looks back 1,000 steps.
        every: averages after every so many optimizer steps, with decay ** every.
        warmup: begins with decay (1 + n) / (10 + n) at the n-th average, until that exceeds `decay`
            (`tf.train.ExponentialMovingAverage`): short runs forget their first weights sooner.
    """

    def __init__(self, *, decay: float, every: int, warmup: bool) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"callbacks.ema.decay is {decay}; it must be > 0 and < 1")
        if every < 1:
            raise ValueError(f"callbacks.ema.every is {every}; it must be >= 1, in optimizer steps")
        self.decay = decay
        self.every = every
        self.warmup = warmup
        self.num_averages = 0

    def on_fit_start(self, trainer: Trainer) -> None:
        source = _unwrapped(trainer.model)
        self.model = copy.deepcopy(source).eval().requires_grad_(False)
        self._averaged, self._copied = _pairs(self.model, source)
        trainer.eval_model = self.model

    @torch.no_grad()
    def after_update(self, trainer: Trainer) -> None:
        averages, weights = self._averaged
        if self.num_averages == 0:  # what on_fit_start copied was older than a loaded checkpoint
            torch._foreach_copy_(averages, weights)
        elif trainer.step % self.every:
            return
        else:
            torch._foreach_lerp_(averages, weights, 1 - self._decay())
        if self._copied[0]:
            torch._foreach_copy_(*self._copied)
        self.num_averages += 1

    def state_dict(self) -> dict[str, Any]:
        """The tensors are those that go on changing, not copies."""
        return {"num_averages": self.num_averages, "model": _tensors(self.model)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the average of a checkpoint.

        Raises:
            ValueError: it is that of another model.
        """
        own, saved = _tensors(self.model), state["model"]
        names = own.keys() | saved.keys()
        fitting = {name for name in own.keys() & saved if own[name].shape == saved[name].shape}
        wrong = sorted(names - fitting)
        if wrong:
            raise ValueError(
                f"callbacks.ema: the checkpoint's average is of another model ({wrong[0]} differs, "
                f"{len(wrong)} of {len(names)} in all); resume with the model it was made with"
            )
        for name, tensor in own.items():
            tensor.copy_(saved[name])
        self.num_averages = state["num_averages"]

    def _decay(self) -> float:
        decay = self.decay**self.every
        n = self.num_averages
        return min(decay, (1 + n) / (10 + n)) if self.warmup else decay


def _unwrapped(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel and torch.compile, which must not be copied."""
    model = getattr(model, "_orig_mod", model)  # that of OptimizedModule, which is slow to import
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return _unwrapped(model.module)
    return model


Pair = tuple[list[Tensor], list[Tensor]]


def _pairs(model: nn.Module, source: nn.Module) -> tuple[Pair, Pair]:
    """((averages, weights), (copies, originals)): what is averaged, and what is copied.

    Weights are the parameters themselves, which may come to lie elsewhere while training goes on.
    """
    own, theirs = _tensors(model), dict(source.named_parameters()) | dict(source.named_buffers())
    averaged = [
        name
        for name, tensor in own.items()
        if tensor.dtype.is_floating_point or tensor.dtype.is_complex
    ]
    copied = [name for name in own if name not in averaged]
    return (
        ([own[name] for name in averaged], [theirs[name] for name in averaged]),
        ([own[name] for name in copied], [theirs[name] for name in copied]),
    )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once even where several modules share it."""
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return parameters | dict(model.named_buffers())
