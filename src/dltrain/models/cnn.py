"""A small convolutional network for images: 3x3 convolutions, BatchNorm, pooling."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from dltrain.models.head import pooled_head
from dltrain.models.input_shape import check_image_shape


def conv_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """[B, in_channels, H, W] -> [B, out_channels, H, W]; BatchNorm brings the bias."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            bn=nn.BatchNorm2d(out_channels),
            relu=nn.ReLU(inplace=True),
        )
    )


class CNN(nn.Module):
    """Logits [B, K] of images [B, C, H, W].

    One convolution and then one a stage, of `widths` channels; the map is halved between stages and
    averaged at the end, so that any size of image is read by the same weights. `dropout` precedes
    the last layer. Initialisation: convolutions He normal, fan out (He et al., 2015,
    arXiv:1502.01852); BatchNorm 1 and 0; the last layer as `nn.Linear`.
    Raises ValueError: samples that are not images, or smaller than 2**(number of stages - 1).
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        num_classes: int,
        widths: Sequence[int],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(
                f"model.widths is {list(widths)}; it must list numbers of channels >= 1"
            )
        smallest = 2 ** (len(widths) - 1)
        in_channels, _, _ = check_image_shape(input_shape, model="cnn", min_size=smallest)
        self.stem = conv_block(in_channels, widths[0])
        self.stages = nn.Sequential(conv_block(widths[0], widths[0]))
        for before, width in pairwise(widths):
            self.stages.append(nn.Sequential(nn.MaxPool2d(2), conv_block(before, width)))
        self.head = pooled_head(widths[-1], num_classes, dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the last feature map [B, widths[-1], H', W']"""
        return self.stages(self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))
