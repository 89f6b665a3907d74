"""Whether an optimizer can update all parameters at once, in one kernel written for it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

KERNELS = {
    "Adam": "aten::_fused_adam_",
    "AdamW": "aten::_fused_adamw_",
    "SGD": "aten::_fused_sgd_",
    "Adagrad": "aten::_fused_adagrad_",
}
DISPATCH_KEYS = {"cpu": "CPU", "cuda": "CUDA", "mps": "MPS", "xpu": "XPU"}
OTHER_WAYS = ("fused", "foreach", "differentiable")  # torch takes one of these at most


def fused_arguments(
    optimizer_class: type[torch.optim.Optimizer],
    device_type: str,
    arguments: Mapping[str, Any] | None = None,
) -> dict[str, bool]:
    """`{"fused": True}` where that is possible on `device_type` (`cpu`, `cuda`), else `{}`.

    Asked of torch itself, kernel by kernel, since it differs by version and device, and only of
    optimizers that are known: a class of someone else's decides for itself.

    Args:
        arguments: what the user gave; who has chosen a way of updating keeps it.
    """
    if any((arguments or {}).get(name) is not None for name in OTHER_WAYS):
        return {}
    kernel = KERNELS.get(optimizer_class.__name__)
    key = DISPATCH_KEYS.get(device_type)
    if kernel is None or key is None:
        return {}
    if "fused" not in inspect.signature(optimizer_class).parameters:
        return {}
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key(kernel, key)
    return {"fused": True} if has_kernel else {}
