"""From a loss to new weights: backward, check, clip, step, in this order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from dltrain.engine.guard import DeviceGuard, HostGuard, ScalerGuard

Schedule = Callable[[float], float]  # progress in [0, 1] -> factor on the base learning rate
Guard = HostGuard | DeviceGuard | ScalerGuard


class Update:
    """One optimizer step. What must be ordered is ordered in `__call__`, and nowhere else."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        schedule: Schedule,
        guard: Guard,
        step: Callable[[], Any] | None = None,
        clip: Callable[[list[Tensor]], Tensor] | None = None,
    ) -> None:
        self.optimizer, self.schedule, self.guard, self.clip = optimizer, schedule, guard, clip
        self.step = step or optimizer.step
        self.names = {param: name for name, param in model.named_parameters()}
        self.params = [p for group in optimizer.param_groups for p in group["params"]]
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self.initial_groups = [dict(group) for group in optimizer.param_groups]
        self.losses: list[Tensor] = []
        self.grad_norm: Tensor | None = None  # of the last step, before clipping; None without

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def backward(self, loss: Tensor, share: Tensor | None = None) -> None:
        """Adds the gradient; `share` is the micro-batch's part of the batch, None for all of it."""
        self.losses.append(loss.detach())
        loss.backward(share)

    def __call__(self, progress: float) -> None:
        """Raises NonFiniteError, with the weights as they were, where the guard says so."""
        factor = self.schedule(progress)
        for group, lr in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = lr * factor
        grads = [param.grad for param in self.params if param.grad is not None]
        if self.guard(grads, self.losses):
            if self.clip is not None:
                self.grad_norm = self.clip(grads)
            self.step()
        self.losses = []
        for param in self.params:
            param.grad = None

    def numbers(self) -> dict[str, float]:
        """What a row says of the last step; read where the host waits for the device anyway."""
        numbers = {"lr": self.lr}
        if self.grad_norm is not None:
            numbers["grad_norm"] = self.grad_norm.item()
        if self.guard.skip:
            numbers["skipped"] = self.guard.num_skipped  # since the run began
        return numbers

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state by parameter name: `{"exp_avg": {"stem.weight": ...}}`."""
        state: dict[str, Any] = {}
        for param, values in self.optimizer.state.items():
            assert isinstance(param, nn.Parameter)
            for key, value in values.items():
                state.setdefault(key, {})[self.names[param]] = value
        return {
            "optimizer": type(self.optimizer).__name__,
            "state": state,
            "groups": self.own_numbers(),
            "guard": self.guard.state_dict(),
            "lrs": [group["lr"] for group in self.optimizer.param_groups],
            "grad_norm": self.grad_norm,
        }

    def own_numbers(self) -> list[dict[str, Any]]:
        """What an optimizer itself changes in its groups (Prodigy's `d`); the rest is config."""
        return [
            {k: v for k, v in group.items() if k not in ("params", "lr") and v != first.get(k)}
            for group, first in zip(self.optimizer.param_groups, self.initial_groups, strict=True)
        ]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back `state_dict()`; of another optimizer, typed on purpose, there is no state."""
        self.grad_norm = state["grad_norm"]
        self.guard.load_state_dict(state["guard"])
        if state["optimizer"] != type(self.optimizer).__name__:
            return
        by_name = {name: param for param, name in self.names.items()}
        group_of = {p: group for group in self.optimizer.param_groups for p in group["params"]}
        for key, values in state["state"].items():
            for name, value in values.items():
                param = by_name[name]
                self.optimizer.state[param][key] = place(value, param, group_of[param])
        if len(state["groups"]) != len(self.optimizer.param_groups):
            return  # grouped in another way, on purpose: what optimizers keep there begins anew
        numbers = zip(self.optimizer.param_groups, state["groups"], state["lrs"], strict=True)
        for group, own, lr in numbers:
            group.update(own, lr=lr)  # of the last step, for the row that may yet be logged


class ScaledUpdate(Update):
    """The update for fp16: the loss is scaled up, and torch's GradScaler scales down and steps."""

    guard: ScalerGuard

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.step = lambda: self.guard.scaler.step(self.optimizer)

    def backward(self, loss: Tensor, share: Tensor | None = None) -> None:
        self.losses.append(loss.detach())
        self.guard.scaler.scale(loss).backward(share)

    def __call__(self, progress: float) -> None:
        super().__call__(progress)
        self.guard.scaler.update()


def place(value: Any, param: Tensor, group: dict[str, Any]) -> Any:
    """A loaded state on the device where torch's optimizers want it: step counters may stay."""
    if not isinstance(value, Tensor):
        return value
    moves = value.dim() > 0 or group.get("fused") or group.get("capturable")
    return value.to(param.device) if moves else value
