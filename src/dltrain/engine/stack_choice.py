"""How trainers are stepped together: tried out on their first batches, compared, and timed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dltrain import cores
from dltrain.engine.device import MAX_THREADS
from dltrain.engine.stack import LOOP, Stack, generator_state, methods_of, untouched

if TYPE_CHECKING:
    from dltrain.engine.trainer import Trainer

ROUNDS = 4
# The loop must be faster by more than what other programs on the machine make of equal times; and
# it has more to do around each pass than what is timed here
MARGIN = 1.1
TOLERANCE = 1e-3  # relative, of a loss: another order of sums is 1e-6, bf16 1e-2 of a logit
# Of a member beside what its pass keeps: weights, gradients, two moments, an average, a snapshot
# of all that on its way to the disk
COPIES = 10
MAX_TOGETHER = 64  # more share nothing that costs, and each has files open
# What the processor works on at each step (weights, gradients, two moments) stays in its cache, or
# waits for memory: 64 MLPs of 85,000 weights took 1.15 times the CPU time of four times 16
CACHE_BYTES, CACHED_COPIES, LEAST_TOGETHER = 32 << 20, 4, 16


@dataclass(frozen=True)
class Choice:
    """A way of stepping, and the numbers that spoke for it."""

    method: str
    threads: int  # of the CPU
    draws: bool = False  # the models draw random numbers as they train: dropout
    seconds: float = math.nan  # a forward and backward pass of all
    loop_seconds: float = math.nan  # the same one after another
    reason: str = ""  # why nothing else came into question

    def describe(self) -> str:
        if self.reason:
            return f"{self.method} ({self.reason})"
        passes = f"{1e3 * self.seconds:.3g} ms a pass of all"
        if self.method == LOOP:
            return f"{self.method}, which was fastest"
        return f"{self.method}, {passes}; one after another {1e3 * self.loop_seconds:.3g} ms"


def choose(trainers: Sequence[Trainer], batches: Sequence[Any]) -> Choice:
    """The fastest way that computes what each computes alone. Nothing is changed by trying."""
    alone = torch.get_num_threads()
    method, *others = methods_of(trainers[0])
    if not others:
        task = type(trainers[0].task).__name__
        return Choice(LOOP, alone, reason=f"the task {task} has no step for several models")
    stack = Stack(trainers, method)
    try:
        return compare(stack, batches, alone)
    except Exception as error:  # whatever somebody's model does that vmap has no rule for
        lines = str(error).splitlines() or [type(error).__name__]
        return Choice(LOOP, alone, reason=f"{method}: {lines[0][:100]}")
    finally:
        torch.set_num_threads(alone)
        stack.release()


def compare(stack: Stack, batches: Sequence[Any], alone: int) -> Choice:
    """Times the stack against the loop, in turn; raises ValueError where their losses differ."""
    pieces = [
        next(iter(t.micro_batches(b)))[0] for t, b in zip(stack.trainers, batches, strict=True)
    ]
    draws = check(stack, pieces)
    cpu = stack.trainers[0].device.type == "cpu"
    candidates = sorted({alone, min(MAX_THREADS, cores.available())}) if cpu else [alone]
    stacked = dict.fromkeys(candidates, math.inf)
    loop = math.inf
    for _ in range(ROUNDS):
        torch.set_num_threads(alone)
        loop = min(loop, seconds_of_loop(stack, pieces))
        for threads in candidates:
            torch.set_num_threads(threads)
            stacked[threads] = min(stacked[threads], seconds_of_pass(stack, pieces))
    threads = min(stacked, key=lambda each: stacked[each])
    if stacked[threads] > MARGIN * loop:
        return Choice(LOOP, alone, draws, stacked[threads], loop)
    return Choice(stack.method, threads, draws, stacked[threads], loop)


def check(stack: Stack, pieces: Sequence[Any]) -> bool:
    """Whether the models draw random numbers; ValueError where the stack's losses are others.

    With dropout they are compared as if it were off, as models are evaluated.
    """
    device = stack.trainers[0].device
    with untouched(stack), torch.no_grad():
        before = generator_state(device)
        stack.losses(pieces)
        draws = not torch.equal(before, generator_state(device))
    models = [trainer.model for trainer in stack.trainers]
    try:
        for model in models:
            model.train(not draws)
        with torch.no_grad():
            with untouched(stack):
                together, _ = stack.losses(pieces)
            with untouched(stack):
                single = torch.stack(
                    [loss_of(*pair) for pair in zip(stack.trainers, pieces, strict=True)]
                )
    finally:
        for model in models:
            model.train()
    if not torch.allclose(together, single, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
        raise ValueError("its losses are not those of the models alone")
    return draws


def loss_of(trainer: Trainer, batch: Any) -> Tensor:
    with trainer.autocast():
        loss, _ = trainer.task.train(trainer.model, batch)
    return loss.float()


def seconds_of_pass(stack: Stack, pieces: Sequence[Any]) -> float:
    with untouched(stack):
        begin = synchronised(stack)
        losses, _ = stack.losses(pieces)
        stack.backward(losses, None)
        return synchronised(stack) - begin


def seconds_of_loop(stack: Stack, pieces: Sequence[Any]) -> float:
    with untouched(stack):
        begin = synchronised(stack)
        for trainer, batch in zip(stack.trainers, pieces, strict=True):
            loss_of(trainer, batch).backward()
        return synchronised(stack) - begin


def synchronised(stack: Stack) -> float:
    if stack.trainers[0].device.type == "cuda":
        torch.cuda.synchronize(stack.trainers[0].device)
    return time.perf_counter()


# ---------------------------------------------------------------------- how many at a time


def how_many(trainer: Trainer, batch: Any, free_bytes: float) -> int:
    """How many trainers like this one fit together into half of `free_bytes`; 1 at least."""
    weights = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    piece = next(iter(trainer.micro_batches(batch)))[0]
    each = COPIES * weights + 2 * bytes_kept(trainer, piece)  # kept, and as much for gradients
    most = MAX_TOGETHER
    if trainer.device.type == "cpu":
        most = min(most, max(LEAST_TOGETHER, CACHE_BYTES // (CACHED_COPIES * weights)))
    return max(1, min(most, int(free_bytes / 2 // each)))


def bytes_kept(trainer: Trainer, batch: Any) -> int:
    """What a forward pass keeps for the backward pass. Nothing is changed by trying."""
    found = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal found
        found += tensor.numel() * tensor.element_size()
        return tensor

    stack = Stack([trainer], LOOP)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with untouched(stack), hooks:
        loss_of(trainer, batch)
    stack.release()
    return found
