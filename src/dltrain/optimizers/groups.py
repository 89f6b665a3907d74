"""Which parameters the optimizer gets, in which groups."""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(model: nn.Module, *, decay_norm_and_bias: bool = True) -> list[dict[str, Any]]:
    """The trainable parameters of `model` as the groups that a torch optimizer takes first.

    Everything in one group, or with `decay_norm_and_bias` false in two, of which the second has no
    weight decay: parameters of at most one dimension, which are biases and the scales and shifts of
    normalisation. Decay limits how strongly inputs are combined; these combine nothing, and to pull
    a scale towards 0 works against the normalisation (He et al. 2019, section 3.1; the rule by
    dimension is that of karpathy/nanoGPT: model.py: configure_optimizers).

    Raises ValueError where nothing can be trained.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError(
            f"{type(model).__name__} has no parameter that requires a gradient; "
            "there is nothing to train"
        )
    if decay_norm_and_bias:
        return [{"params": trainable}]
    decayed = [parameter for parameter in trainable if parameter.ndim > 1]
    exempt = [parameter for parameter in trainable if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": exempt, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
