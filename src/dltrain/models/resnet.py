"""ResNets (He et al., 2015, arXiv:1512.03385): the CIFAR family of 6n+2 layers, and 18 to 152."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.models.head import pooled_head
from dltrain.models.input_shape import check_image_shape

# Images whose shorter side reaches this get the ImageNet stem under `stem: auto`. With the three
# strides behind it, it shrinks an image 32 times: of 96 pixels, a map of 3x3 is left to pool; of
# Tiny ImageNet's 64 it would be 2x2. Above, the CIFAR stem would cost 16 times the arithmetic.
IMAGENET_STEM_FROM = 96


# ------------------------------------------------------------------------------------- blocks


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps H and W (up to its stride); BatchNorm behind it brings the bias."""
    padding = kernel_size // 2
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)


class PaddedShortcut(nn.Module):
    """Option A of the paper, without parameters: every second pixel, zeros for the new channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels, self.stride = out_channels - in_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C + new_channels, ceil(H / stride), ceil(W / stride)]"""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Option B of the paper: a strided 1x1 convolution."""
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; `shortcut` brings x to the shape that they give."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(in_channels, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 to four times the width; the 3x3 has the stride ("v1.5", as torchvision)."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(in_channels, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.shortcut(x), inplace=True)


Block = type[BasicBlock] | type[Bottleneck]


def make_stage(
    block: Block,
    in_channels: int,
    width: int,
    *,
    num_blocks: int,
    stride: int,
    shortcut: Callable[[int, int, int], nn.Module],
) -> nn.Sequential:
    out_channels = width * block.expansion
    same_shape = stride == 1 and in_channels == out_channels
    way_around = nn.Identity() if same_shape else shortcut(in_channels, out_channels, stride)
    stage = nn.Sequential(block(in_channels, width, stride, way_around))
    for _ in range(num_blocks - 1):
        stage.append(block(out_channels, width, 1, nn.Identity()))
    return stage


# -------------------------------------------------------------------------------------- model

WIDE: dict[int, tuple[Block, tuple[int, ...]]] = {  # depth: its block, and how many a stage
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    """Logits [B, K] of images [B, C, H, W].

    `depth` 18, 34, 50, 101 and 152 are the ImageNet family (widths 64 to 512, shortcuts by
    projection); any other 6n+2, such as 20, 32, 44, 56 and 110, is the CIFAR family (widths 16, 32
    and 64, shortcuts without parameters). `stem`: `cifar` is a 3x3 convolution, `imagenet` a 7x7 of
    stride 2 and a pooling of stride 2, `auto` the latter from 96 pixels on the shorter side.
    `zero_init_last` starts every block as its shortcut (Goyal et al., 2017, arXiv:1706.02677).
    `dropout` precedes the last layer.

    Initialisation: convolutions He normal, fan out (He et al., 2015, arXiv:1502.01852; as
    torchvision); BatchNorm 1 and 0; the last layer as `nn.Linear`.
    Raises ValueError: another depth or stem, samples that are not images.
    """

    def __init__(
        self,
        *,
        depth: int,
        input_shape: Sequence[int],
        num_classes: int,
        stem: str = "auto",
        zero_init_last: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        in_channels, *size = check_image_shape(input_shape, model="resnet")
        if stem == "auto":
            stem = "imagenet" if min(size) >= IMAGENET_STEM_FROM else "cifar"
        block, num_blocks, widths = architecture(depth)
        channels = widths[0]
        self.stem = make_stem(stem, in_channels, channels)
        self.stages = nn.Sequential()
        for index, width in enumerate(widths):
            stage = make_stage(
                block,
                channels,
                width,
                num_blocks=num_blocks[index],
                stride=1 if index == 0 else 2,
                shortcut=projection if depth in WIDE else PaddedShortcut,
            )
            self.stages.append(stage)
            channels = width * block.expansion
        self.head = pooled_head(channels, num_classes, dropout)
        initialise(self, zero_init_last)

    def features(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the last feature map [B, D, H', W']"""
        return self.stages(self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    @staticmethod
    def rename_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's names -> ours; ours stay as they are."""

        def rename(name: str) -> str:
            name = re.sub(r"^(conv|bn)1\.", r"stem.\1.", name)
            name = re.sub(r"^layer(\d)\.", lambda match: f"stages.{int(match[1]) - 1}.", name)
            name = re.sub(r"^fc\.", "head.fc.", name)
            return name.replace(".downsample.", ".shortcut.")

        return {rename(name): tensor for name, tensor in state_dict.items()}


def architecture(depth: int) -> tuple[Block, tuple[int, ...], tuple[int, ...]]:
    """The block, how many of them each stage has, and the width of each stage."""
    if depth in WIDE:
        return *WIDE[depth], (64, 128, 256, 512)
    if depth >= 8 and depth % 6 == 2:
        return BasicBlock, (depth // 6,) * 3, (16, 32, 64)
    wide = ", ".join(map(str, WIDE))
    raise ValueError(
        f"model.depth is {depth}; it must be one of {wide}, "
        "or 6n+2 for the CIFAR family: 8, 14, 20, 26, 32, 44, 56, 110, ..."
    )


def make_stem(stem: str, in_channels: int, width: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if stem == "cifar":
        layers["conv"] = conv(in_channels, width, 3)
    elif stem == "imagenet":
        layers["conv"] = conv(in_channels, width, 7, stride=2)
    else:
        raise ValueError(f"model.stem is {stem!r}; it must be cifar, imagenet or auto")
    layers["bn"] = nn.BatchNorm2d(width)
    layers["relu"] = nn.ReLU(inplace=True)
    if stem == "imagenet":
        layers["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(layers)


def initialise(model: nn.Module, zero_init_last: bool) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_last and isinstance(module, BasicBlock | Bottleneck):
            last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
            nn.init.zeros_(last.weight)
