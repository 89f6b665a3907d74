"""Layers of M models at once, as batched products: weights are stacked, [M, ...], by name."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def stacked_linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """[M, B, in_features] -> [M, B, out_features], as `F.linear` of each."""
    return torch.baddbmm(
        weights[f"{name}.bias"].unsqueeze(1), x, weights[f"{name}.weight"].transpose(1, 2)
    )


def stacked_norm(
    norm: nn.Module, x: Tensor, weights: dict[str, Tensor], buffers: dict[str, Tensor], name: str
) -> Tensor:
    """[M, B, F] -> [M, B, F], each model's features by its own scale, shift and statistics.

    norm: LayerNorm or BatchNorm1d of one of them, for its settings; the stacked running statistics
    of a BatchNorm move as its own would.
    """
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if isinstance(norm, nn.LayerNorm):
        x = F.layer_norm(x, norm.normalized_shape, eps=norm.eps)
        return torch.addcmul(bias.unsqueeze(1), x, weight.unsqueeze(1))
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.momentum is not None
    num_models, batch_size, num_features = x.shape
    if norm.training:
        buffers[f"{name}.num_batches_tracked"].add_(1)
    by_channel = F.batch_norm(  # all features of all models are channels of one
        x.transpose(0, 1).reshape(batch_size, num_models * num_features),
        buffers[f"{name}.running_mean"].view(-1),
        buffers[f"{name}.running_var"].view(-1),
        weight.reshape(-1),
        bias.reshape(-1),
        training=norm.training,
        momentum=norm.momentum,
        eps=norm.eps,
    )
    return by_channel.view(batch_size, num_models, num_features).transpose(0, 1)
