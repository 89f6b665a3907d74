"""The multilayer perceptron: fully connected layers on the flattened input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.models.stacking import stacked_linear, stacked_norm

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,  # a deep linear network
}


NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    "none": None,
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
}


class HiddenLayer(nn.Linear):
    """Linear, norm, activation and dropout in one module: on small layers, calls cost time."""

    def __init__(
        self, in_features: int, out_features: int, *, norm: str, activation: str, dropout: float
    ) -> None:
        super().__init__(in_features, out_features)
        make_norm = NORMS[norm]
        self.norm = None if make_norm is None else make_norm(out_features)
        self.activation = activation
        self.dropout = nn.Dropout(dropout) if dropout else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_features] -> [B, out_features]"""
        x = F.linear(x, self.weight, self.bias)
        x = ACTIVATIONS[self.activation](x if self.norm is None else self.norm(x))
        return x if self.dropout is None else self.dropout(x)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, activation={self.activation}"


class MLP(nn.Module):
    """Logits [B, K] of inputs [B, *input_shape], which may be images or vectors.

    `hidden_sizes` may be empty (then it is a linear model). A hidden layer is linear, `norm` (none,
    batch or layer), `activation`, `dropout`.
    Initialisation: that of `nn.Linear`, weights and biases uniform in ±1/sqrt(fan_in)
    (LeCun et al., Efficient BackProp, 1998, up to a factor).
    Raises ValueError: unknown activation or norm, a hidden size below 1, dropout outside [0, 1].
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_classes: int,
        hidden_sizes: Sequence[int],
        norm: str = "none",
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"model.norm is {norm!r}; it must be one of {', '.join(NORMS)}")
        if activation not in ACTIVATIONS:
            names = ", ".join(ACTIVATIONS)
            raise ValueError(f"model.activation is {activation!r}; it must be one of {names}")
        if any(size < 1 for size in hidden_sizes):
            raise ValueError(f"model.hidden_sizes is {list(hidden_sizes)}; each must be >= 1")
        sizes = [math.prod(input_shape), *hidden_sizes]
        self.stem = nn.Flatten()
        self.stages = nn.Sequential()
        for n_in, n_out in pairwise(sizes):
            self.stages.append(
                HiddenLayer(n_in, n_out, norm=norm, activation=activation, dropout=dropout)
            )
        self.head = nn.Linear(sizes[-1], num_classes)

    def features(self, x: Tensor) -> Tensor:
        """[B, *input_shape] -> [B, hidden_sizes[-1]]"""
        return self.stages(self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    def forward_stacked(
        self, weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor
    ) -> Tensor:
        """Logits [M, B, K] of inputs [M, B, *input_shape] by M models of this one's structure.

        weights, buffers: theirs, stacked by name: [M, ...]. This one's own are not looked at.
        """
        x = x.flatten(2).transpose(1, 2)
        for index, layer in enumerate(self.stages):
            assert isinstance(layer, HiddenLayer)
            x = stacked_linear(x, weights, f"stages.{index}")
            if layer.norm is not None:
                x = stacked_norm(layer.norm, x, weights, buffers, f"stages.{index}.norm")
            x = ACTIVATIONS[layer.activation](x)
            x = x if layer.dropout is None else layer.dropout(x)
        return stacked_linear(x, weights, "head").transpose(1, 2)
