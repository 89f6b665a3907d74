"""torch.optim without torch._dynamo, which only a compiled training step needs.

Making any torch.optim optimizer, and the first call of its `step`, import torch._dynamo: 900
modules and 1 to 2 s, more than a short run takes. Both do it only to tell the compiler to keep out.
Where nothing is compiled, the very same code runs without telling; the numbers cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

WRAPPED_BY_DISABLE = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def keep_dynamo_out() -> None:
    """Lets optimizers be made without torch._dynamo; does nothing where torch has changed.

    `torch._compile._disable_dynamo` keeps its disabled function in an attribute of the function it
    wraps, and imports torch._dynamo only to make it: here it is the function itself.
    """
    for name in WRAPPED_BY_DISABLE:
        function = getattr(getattr(Optimizer, name), "__wrapped__", None)
        if function is not None and not hasattr(function, "__dynamo_disable"):
            setattr(function, "__dynamo_disable", function)


def eager_step(optimizer: Optimizer) -> Callable[[], Any]:
    """`optimizer.step` less its detours: torch._dynamo's, and profiling's (30 us of 80 for AdamW).

    Only for classes of torch.optim itself, with no step hook registered; anything else keeps its
    own `step`.
    """
    function: Any = type(optimizer).step
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    ours = type(optimizer).__module__.startswith("torch.optim.")
    if not ours or hooked(optimizer) or optimizer.defaults.get("differentiable"):
        return optimizer.step

    def step() -> None:
        with torch.no_grad():
            function(optimizer)

    return step


def hooked(optimizer: Optimizer) -> bool:
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)
