"""The classification models of torchvision by name, each cut into stem, stages and head."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.models.input_shape import check_image_shape

# ------------------------------------------------------------------------------------- pieces


class GrayToColor(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, H, W] -> [B, 3, H, W], three views of the same memory"""
        return x.expand(-1, 3, -1, -1)


class TokenStem(nn.Module):
    """What a VisionTransformer does before its first layer: patches, class token, positions."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.conv_proj, self.class_token = vit.conv_proj, vit.class_token
        self.pos_embedding, self.dropout = vit.encoder.pos_embedding, vit.encoder.dropout

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, 1 + patches, D]"""
        patches = self.conv_proj(x).flatten(2).transpose(1, 2)
        class_token = self.class_token.expand(x.shape[0], -1, -1)
        return self.dropout(torch.cat([class_token, patches], dim=1) + self.pos_embedding)


class ClassToken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """[B, 1 + patches, D] -> [B, D]"""
        return x[:, 0]


def children(net: nn.Module, first: str, last: str) -> nn.Sequential:
    """The children of `net` from one name to another, in their order."""
    names = [name for name, _ in net.named_children()]
    span = names[names.index(first) : names.index(last) + 1]
    return nn.Sequential(*(net.get_submodule(name) for name in span))


def cut(net: Any) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential]:
    """Stem, stages and head: one after the other they do what `net.forward` does.

    The stages end with the last feature map [B, D, H', W'] (a VisionTransformer: its tokens
    [B, 1 + patches, D], the class token first), so that the pooling belongs to the head.
    """
    sequential, flatten, pool = nn.Sequential, nn.Flatten(), nn.AdaptiveAvgPool2d(1)
    match type(net).__name__:
        case "AlexNet" | "VGG" | "EfficientNet" | "MobileNetV3":
            head = sequential(net.avgpool, flatten, net.classifier)
            return net.features[:1], net.features[1:], head
        case "MobileNetV2":
            return net.features[:1], net.features[1:], sequential(pool, flatten, net.classifier)
        case "ConvNeXt":
            return net.features[:1], net.features[1:], sequential(net.avgpool, net.classifier)
        case "SqueezeNet":
            return net.features[:3], net.features[3:], sequential(net.classifier, flatten)
        case "DenseNet":
            stages = sequential(*net.features[4:], nn.ReLU(inplace=True))
            return net.features[:4], stages, sequential(pool, flatten, net.classifier)
        case "MNASNet":
            return net.layers[:3], net.layers[3:], sequential(pool, flatten, net.classifier)
        case "ResNet":
            head = sequential(net.avgpool, flatten, net.fc)
            return children(net, "conv1", "maxpool"), children(net, "layer1", "layer4"), head
        case "RegNet":
            return net.stem, net.trunk_output, sequential(net.avgpool, flatten, net.fc)
        case "ShuffleNetV2":
            head = sequential(pool, flatten, net.fc)
            return children(net, "conv1", "maxpool"), children(net, "stage2", "conv5"), head
        case "GoogLeNet":
            stages = children(net, "inception3a", "inception5b")
            head = sequential(net.avgpool, flatten, net.dropout, net.fc)
            return children(net, "conv1", "maxpool2"), stages, head
        case "Inception3":
            stages = children(net, "Mixed_5b", "Mixed_7c")
            head = sequential(net.avgpool, net.dropout, flatten, net.fc)
            return children(net, "Conv2d_1a_3x3", "maxpool2"), stages, head
        case "SwinTransformer":  # its maps are [B, H, W, D] until `permute`
            stages = sequential(*net.features[1:], net.norm, net.permute)
            return net.features[:1], stages, sequential(net.avgpool, flatten, net.head)
        case "MaxVit":
            return net.stem, sequential(*net.blocks), net.classifier
        case "VisionTransformer":
            head = sequential(ClassToken(), net.encoder.ln, net.heads)
            return sequential(TokenStem(net)), net.encoder.layers, head
        case unknown:
            raise ValueError(f"dltrain does not know how to cut torchvision's {unknown} into parts")


# -------------------------------------------------------------------------------------- model


class TorchvisionModel(nn.Module):
    """Logits [B, K] of images [B, 1 or 3, H, W] (gray ones are repeated three times).

    `name` is any classification model of torchvision, `kwargs` go to the function that builds it,
    e.g. `{dropout: 0.3}` for those that know it. Auxiliary heads are off; vit and maxvit are built
    for the dataset's image size. Initialisation is torchvision's.
    Raises ValueError: an unknown name, unfit kwargs, images that the architecture cannot read.
    Raises ImportError: torchvision is missing, or not made for this torch.
    """

    def __init__(
        self,
        *,
        name: str,
        input_shape: Sequence[int],
        num_classes: int,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        channels, height, width = check_image_shape(input_shape, model=f"torchvision's {name}")
        if channels not in (1, 3):
            raise ValueError(
                f"torchvision's models read 1 or 3 channels; these images have {channels}"
            )
        net = build(name, (height, width), num_classes, dict(kwargs or {}))
        theirs = {id(tensor): key for key, tensor in net.state_dict(keep_vars=True).items()}
        self.stem, self.stages, self.head = cut(net)
        if channels == 1:
            self.stem = nn.Sequential(GrayToColor(), self.stem)
        ours = self.state_dict(keep_vars=True)
        self.our_names = {theirs[id(tensor)]: key for key, tensor in ours.items()}
        check_forward(self, name, (channels, height, width))

    def features(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the last feature map [B, D, H', W'], or a vit's tokens [B, N, D]"""
        return self.stages(self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    def rename_weights(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's names -> ours, auxiliary heads left out; ours stay as they are."""
        return {
            self.our_names.get(modern_name(name), name): tensor
            for name, tensor in state_dict.items()
            if not name.startswith(("aux1.", "aux2.", "AuxLogits."))
        }


def modern_name(name: str) -> str:
    """The names in torchvision's published densenet and vit files -> those of its present code."""
    name = re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)
    return name.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")


def build(name: str, size: tuple[int, int], num_classes: int, kwargs: dict[str, Any]) -> nn.Module:
    """torchvision's own model with random weights."""
    models = import_models()
    names = models.list_models(module=models)
    if name not in names:
        near = difflib.get_close_matches(str(name).lower(), names, n=4, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(names[:8])}, ..."
        raise ValueError(f"model.name is {name!r}, which torchvision does not have; {hint}")
    ours: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if name in ("googlenet", "inception_v3"):
        ours |= {"aux_logits": False, "transform_input": False, "init_weights": True}
    elif name.startswith("vit_"):
        if size[0] != size[1]:
            raise ValueError(f"{name} reads square images, and these are {size[0]}x{size[1]}")
        ours["image_size"] = size[0]
    elif name.startswith("maxvit"):
        ours["input_size"] = size
    if clash := ours.keys() & kwargs.keys():
        raise ValueError(f"model.kwargs sets {', '.join(sorted(clash))}; dltrain does that itself")
    try:
        return models.get_model(name, **ours, **kwargs)
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(
            f"torchvision does not build {name} for images of {size[0]}x{size[1]} "
            f"with model.kwargs {kwargs}: {error}"
        ) from error


def import_models() -> Any:
    try:
        from torchvision import models
    except (ImportError, RuntimeError, AttributeError, OSError) as error:  # a wrong pair: any
        raise ImportError(
            f"model=torchvision cannot import torchvision: {error}\n"
            f"It must be the one made for this torch ({torch.__version__}); install both together: "
            "pip install torch torchvision\n"
            "linear, mlp, cnn and the resnets work without it."
        ) from error
    return models


def check_forward(model: nn.Module, name: str, input_shape: tuple[int, ...]) -> None:
    """Raises ValueError where `model` cannot read images of `input_shape`; computes shapes only."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    on_meta = {key: tensor.to("meta") for key, tensor in tensors.items()}
    training = model.training
    try:
        with torch.no_grad():
            images = torch.empty(1, *input_shape, device="meta")
            torch.func.functional_call(model.eval(), on_meta, images)
    except RuntimeError as error:
        size = "x".join(map(str, input_shape[1:]))
        raise ValueError(f"torchvision's {name} cannot read images of {size}: {error}") from error
    finally:
        model.train(training)
