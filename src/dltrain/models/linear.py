"""Multinomial logistic regression: one linear layer on the flattened input."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from dltrain.models.stacking import stacked_linear


class Linear(nn.Module):
    """Logits [B, K] of inputs [B, *input_shape]; the features are the inputs, flattened.

    Initialisation: zeros. The loss is convex, so that every start ends at the same place; this one
    begins at uniform probabilities and the loss log K.
    """

    def __init__(self, *, input_shape: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Flatten()
        self.stages = nn.Sequential()
        self.head = nn.Linear(math.prod(input_shape), num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def features(self, x: Tensor) -> Tensor:
        """[B, *input_shape] -> [B, F]"""
        return self.stages(self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    def forward_stacked(
        self, weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor
    ) -> Tensor:
        """Logits [M, B, K] of inputs [M, B, *input_shape] by M models, weights stacked."""
        return stacked_linear(x.flatten(2).transpose(1, 2), weights, "head").transpose(1, 2)
