"""Layers of M models at once, as batched products: weights are stacked, [M, ...], by name.

What goes from layer to layer is [M, F, B], a column a sample: so the products' gradients lie in
memory as the weights do, and optimizers need no copy of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def stacked_linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """[M, in_features, B] -> [M, out_features, B], as `F.linear` of each."""
    return torch.baddbmm(weights[f"{name}.bias"].unsqueeze(2), weights[f"{name}.weight"], x)


def stacked_norm(
    norm: nn.Module, x: Tensor, weights: dict[str, Tensor], buffers: dict[str, Tensor], name: str
) -> Tensor:
    """[M, F, B] -> [M, F, B], each model's features by its own scale, shift and statistics.

    norm: LayerNorm or BatchNorm1d of one of them, for its settings; the stacked running statistics
    of a BatchNorm move as its own would.
    """
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if isinstance(norm, nn.LayerNorm):
        by_sample = F.layer_norm(x.transpose(1, 2), norm.normalized_shape, eps=norm.eps)
        return torch.addcmul(bias.unsqueeze(2), by_sample.transpose(1, 2), weight.unsqueeze(2))
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.momentum is not None
    if norm.training:
        buffers[f"{name}.num_batches_tracked"].add_(1)
    normalised = F.batch_norm(  # all features of all models are channels of one
        x.flatten(0, 1).t(),
        buffers[f"{name}.running_mean"].view(-1),
        buffers[f"{name}.running_var"].view(-1),
        weight.reshape(-1),
        bias.reshape(-1),
        training=norm.training,
        momentum=norm.momentum,
        eps=norm.eps,
    )
    return normalised.t().reshape(x.shape)
