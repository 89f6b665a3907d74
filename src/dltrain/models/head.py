"""The head of the convolutional models: a feature map's mean, dropout, one linear layer."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def pooled_head(channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    """[B, channels, H, W] -> logits [B, K]

    Raises ValueError: dropout outside [0, 1].
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    if dropout:  # left out rather than set to 0: it would cost a call; names do not depend on it
        layers["dropout"] = nn.Dropout(dropout)
    layers["fc"] = nn.Linear(channels, num_classes)
    return nn.Sequential(layers)
