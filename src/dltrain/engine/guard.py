"""Keeps numbers that are not finite out of the weights: three ways, one of which a run uses.

Each is called with the gradients and losses of a step before the optimizer, and says whether the
optimizer is to be called. `check` is called where the host waits for the device anyway.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dltrain.errors import NonFiniteError

MAX_SKIPPED_IN_A_ROW = 100


class SavedBuffers:
    """BatchNorm's running statistics as they were before a forward pass that is to be forgotten."""

    def __init__(self, model: nn.Module) -> None:
        self.buffers = [buffer for buffer in model.buffers() if buffer.numel()]
        self.saved = [buffer.clone() for buffer in self.buffers]

    def settle(self, bad: Tensor | bool) -> None:
        """Puts the buffers back where `bad`, and keeps them where not; a tensor is not read."""
        if not self.buffers:
            return
        if isinstance(bad, Tensor):
            pairs = zip(self.buffers, self.saved, strict=True)
            kept = [torch.where(bad > 0, saved, buffer) for buffer, saved in pairs]
            torch._foreach_copy_(self.buffers, kept)
        elif bad:
            torch._foreach_copy_(self.buffers, self.saved)
        if bad is not True:
            torch._foreach_copy_(self.saved, self.buffers)

    def refresh(self) -> None:
        """Takes the buffers as they are now: a checkpoint has been loaded into them."""
        self.settle(False)


class HostGuard:
    """Reads one flag after every step. On a CPU that costs 0.2 us; on CUDA it waits for the step.

    The flag is set by the kernel with which torch.amp.GradScaler unscales gradients (2 us for a
    small net, here with a scale of one), so a bad number never meets the optimizer.
    """

    def __init__(self, model: nn.Module, device: torch.device, *, skip: bool) -> None:
        self.found = torch.zeros((), device=device)
        self.one = torch.ones((), device=device)
        self.skip = skip
        self.buffers = SavedBuffers(model) if skip else None
        self.num_skipped = self.in_a_row = 0

    def __call__(self, grads: list[Tensor], losses: list[Tensor]) -> bool:
        torch._amp_foreach_non_finite_check_and_unscale_([*grads, *losses], self.found, self.one)
        bad = bool(self.found.item())
        if bad and not self.skip:
            raise NonFiniteError(describe(losses))
        self.in_a_row = self.in_a_row + 1 if bad else 0
        if bad:
            self.num_skipped += 1
            self.found.zero_()
        if self.buffers is not None:
            self.buffers.settle(bad)
        if self.in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise NonFiniteError(f"{self.in_a_row} steps in a row were not finite")
        return not bad

    def check(self) -> None:
        """Nothing is left to find."""

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.num_skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.num_skipped, self.in_a_row = int(state["skipped"]), int(state["in_a_row"])
        if self.buffers is not None:
            self.buffers.refresh()


class DeviceGuard:
    """For fused optimizers on CUDA: the kernel reads the flag itself, and the host never waits.

    With `skip` the flag lives for one step. Without, it stays set, so that no step after the first
    bad one changes anything until `check` sees it and the run ends.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer | None, *, skip: bool) -> None:
        device = next(model.parameters()).device
        self.found, self.skipped, self.in_a_row = torch.zeros(3, device=device).unbind()
        self.one = torch.ones((), device=device)
        self.skip = skip
        self.num_skipped = 0  # as `check` last read it
        self.buffers = SavedBuffers(model) if skip else None
        if optimizer is not None:
            optimizer.found_inf = self.found  # type: ignore[attr-defined]  # fused kernels look for it

    def __call__(self, grads: list[Tensor], losses: list[Tensor]) -> bool:
        if self.skip:
            self.found.zero_()
        torch._amp_foreach_non_finite_check_and_unscale_([*grads, *losses], self.found, self.one)
        self.skipped.add_(self.found)
        if self.buffers is not None:
            self.in_a_row.add_(self.found).mul_(self.found)
            self.buffers.settle(self.found)
        return True

    def check(self) -> None:
        """Reads what was found since the last time (two numbers, one wait)."""
        skipped, in_a_row = torch.stack((self.skipped, self.in_a_row)).tolist()
        if skipped and not self.skip:
            raise NonFiniteError(
                "the loss or a gradient was not finite; no weight was changed",
                steps_ago=int(skipped),
            )
        self.num_skipped = int(skipped)
        if in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise NonFiniteError(f"{in_a_row:.0f} steps in a row were not finite")

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped.item(), "in_a_row": self.in_a_row.item()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.skipped.fill_(state["skipped"])
        self.in_a_row.fill_(state["in_a_row"])
        if self.buffers is not None:
            self.buffers.refresh()


class ScalerGuard(DeviceGuard):
    """For fp16: torch.amp.GradScaler skips the overflows by which it finds its scale.

    A gradient that overflows is no fault; a loss that is not finite is one, and has poisoned the
    buffers. So are gradients that are not finite at the smallest scale.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, device: torch.device, *, skip: bool
    ) -> None:
        super().__init__(model, None, skip=skip)  # the scaler tells the optimizer itself
        self.optimizer = optimizer
        self.scaler = torch.amp.GradScaler(device.type)

    def __call__(self, grads: list[Tensor], losses: list[Tensor]) -> bool:
        self.scaler.unscale_(self.optimizer)
        return super().__call__([], losses)

    def check(self) -> None:
        super().check()
        if self.scaler.get_scale() < 1.0:
            raise NonFiniteError("gradients are not finite in fp16 at any scale; try bf16 or fp32")

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if "scaler" in state:  # not of a run that trained in another precision until now
            self.scaler.load_state_dict(state["scaler"])


def describe(losses: list[Tensor]) -> str:
    loss = sum(float(loss) for loss in losses) / len(losses)
    if math.isfinite(loss):
        return f"a gradient is not finite (the loss is {loss:g})"
    return f"the loss is {loss}"


def refuse_nan(trainer: Any, split: str, metrics: dict[str, float]) -> None:
    """An observer of evaluations: weights whose loss is NaN are not to be gone on from."""
    if math.isnan(metrics.get("loss", 0.0)):
        raise NonFiniteError(f"the loss on {split} is nan", steps_ago=1)
