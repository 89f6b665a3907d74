"""One forward and backward pass over M models: their weights are views into stacked tensors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dltrain.engine.trainer import Trainer

PRODUCTS, VMAP, LOOP = "batched products", "vmap", "one after another"
# What a task gives of M models at once, and a model of M of its structure; see
# `dltrain.tasks.classification` and `dltrain.models.mlp`
STACKED_LOSSES, FORWARD_STACKED = "stacked_losses", "forward_stacked"


def methods_of(trainer: Trainer) -> list[str]:
    """The ways in which trainers like this one could be stepped, the likely fastest first."""
    if not hasattr(trainer.task, STACKED_LOSSES):
        return [LOOP]
    first = PRODUCTS if hasattr(trainer.model, FORWARD_STACKED) else VMAP
    return [first, LOOP]


def is_alike(model: nn.Module, other: nn.Module) -> bool:
    """Whether their weights can lie in one stack: names, shapes, types, and what is trained."""
    return shapes_of(model) == shapes_of(other)


def shapes_of(model: nn.Module) -> list[tuple[Any, ...]]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return [(name, t.shape, t.dtype, t.device, t.requires_grad) for name, t in named]


class Stack:
    """The weights and buffers of M models in one tensor each, [M, ...].

    Every model keeps its own parameter objects, whose storage is now a part of the stack's: what
    its optimizer, its average and its checkpoints do to them is done to the stack.
    """

    def __init__(self, trainers: Sequence[Trainer], method: str) -> None:
        self.trainers, self.method = list(trainers), method
        models = [trainer.model for trainer in trainers]
        self.model = models[0]
        self.weights = {
            name: gather([model.get_parameter(name) for model in models])
            for name, _ in self.model.named_parameters()
        }
        self.buffers = {
            name: gather([model.get_buffer(name) for model in models])
            for name, _ in self.model.named_buffers()
        }
        self.trained = [weight for weight in self.weights.values() if weight.requires_grad]
        self.params = [[p for p in model.parameters() if p.requires_grad] for model in models]

    def release(self) -> None:
        """Gives every model storage of its own again."""
        for trainer in self.trainers:
            detach(trainer.model)

    def losses(self, batches: Sequence[Any]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """float [M] with a graph to the stacked weights, and the records of the task, [M, B]."""
        first = batches[0]
        if all(batch is first for batch in batches):  # of one seed: read once, and not copied
            inputs, targets = (column.expand(len(batches), *column.shape) for column in first[:2])
        else:
            inputs, targets = (
                torch.stack([batch[column] for batch in batches]) for column in (0, 1)
            )
        tasks = [trainer.task for trainer in self.trainers]
        with self.trainers[0].autocast():
            logits = self.forward(inputs)
            losses, records = getattr(tasks[0], STACKED_LOSSES)(tasks, logits, targets)
        return losses, records

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [M, B, K] of inputs [M, B, ...]."""
        if self.method == PRODUCTS:
            logits: Tensor = getattr(self.model, FORWARD_STACKED)(
                self.weights, self.buffers, inputs
            )
            return logits
        from torch.func import functional_call, vmap

        def call(weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
            out: Tensor = functional_call(self.model, (weights, buffers), (x,))
            return out

        # dropout is drawn for each model; their buffers are changed in place, where they lie
        found: Tensor = vmap(call, randomness="different")(self.weights, self.buffers, inputs)
        return found

    def backward(self, losses: Tensor, share: Tensor | None) -> None:
        """Adds each model's gradient to its parameters; `share` as for `Update.backward`."""
        total = losses.sum() if share is None else losses.sum() * share
        stacked = torch.autograd.grad(total, self.trained, allow_unused=True)
        for index, grad in enumerate(stacked):
            if grad is None:
                continue
            # Fused optimizers take the memory of gradients for that of weights, which is contiguous
            grads = grad.contiguous().unbind(0)
            for params, own in zip(self.params, grads, strict=True):
                param = params[index]
                param.grad = own if param.grad is None else param.grad.add_(own)


def gather(tensors: Sequence[Tensor]) -> Tensor:
    """A copy of them all in one tensor, of which each becomes a view."""
    stacked = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, view in zip(tensors, stacked.unbind(0), strict=True):
        tensor.data = view
    return stacked.requires_grad_(tensors[0].requires_grad)


def detach(model: nn.Module) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.detach().clone()


@contextmanager
def untouched(stack: Stack) -> Iterator[None]:
    """What a trial pass changes beside gradients is put back: buffers and the random generators."""
    device = stack.trainers[0].device
    saved = [buffer.clone() for buffer in stack.buffers.values()]
    state = generator_state(device)
    try:
        yield
    finally:
        for buffer, was in zip(stack.buffers.values(), saved, strict=True):
            buffer.copy_(was)
        set_generator_state(state, device)
        for trainer in stack.trainers:
            for param in trainer.model.parameters():
                param.grad = None


def generator_state(device: torch.device) -> Tensor:
    """Of torch's generator from which layers on `device` draw."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_generator_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
