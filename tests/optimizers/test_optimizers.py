"""Parameter groups hold every trainable parameter once; fused is asked for where torch has it."""

import copy
import importlib
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from dltrain.config.signatures import check_arguments, read_signature
from dltrain.optimizers.fused import KERNELS, fused_arguments
from dltrain.optimizers.groups import parameter_groups

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "optimizer").glob("*.yaml"))


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 8), nn.LayerNorm(8)
    )


def test_norms_and_biases_are_kept_off_weight_decay() -> None:
    model = small_net()
    decayed, exempt = parameter_groups(model, decay_norm_and_bias=False)
    conv, batch_norm, _, linear, layer_norm = model
    assert [*map(id, decayed["params"])] == [id(conv.weight), id(linear.weight)]
    others = [conv.bias, *batch_norm.parameters(), linear.bias, *layer_norm.parameters()]
    assert [*map(id, exempt["params"])] == [*map(id, others)]
    optimizer = torch.optim.AdamW([decayed, exempt], weight_decay=0.3)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]


def test_decay_alone_shrinks_weights_and_nothing_else() -> None:
    model = small_net()
    before = copy.deepcopy(model)
    groups = parameter_groups(model, decay_norm_and_bias=False)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    torch.optim.SGD(groups, lr=0.1, weight_decay=0.5).step()
    for new, old in zip(model.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(new, old * (0.95 if old.ndim > 1 else 1.0))


def test_one_group_by_default_and_each_parameter_once() -> None:
    model = small_net()
    model[3].weight.requires_grad_(False)
    model.append(model[4])  # shared
    trainable = [id(each) for each in model.parameters() if each.requires_grad]
    [everything] = parameter_groups(model, decay_norm_and_bias=True)
    assert [*map(id, everything["params"])] == trainable
    assert set(everything) == {"params"}
    split = parameter_groups(model, decay_norm_and_bias=False)
    assert sorted(id(each) for group in split for each in group["params"]) == sorted(trainable)


def test_no_empty_groups_and_no_empty_model() -> None:
    [exempt] = parameter_groups(nn.LayerNorm(3), decay_norm_and_bias=False)
    assert exempt["weight_decay"] == 0.0
    [decayed] = parameter_groups(nn.Linear(2, 2, bias=False), decay_norm_and_bias=False)
    assert "weight_decay" not in decayed
    with pytest.raises(ValueError, match="Flatten has no parameter that requires a gradient"):
        parameter_groups(nn.Flatten(), decay_norm_and_bias=True)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_fused_is_taken_and_changes_nothing(name: str) -> None:
    optimizer_class = getattr(torch.optim, name)
    fused = fused_arguments(optimizer_class, "cpu")
    assert fused == {"fused": True}
    models = []
    for arguments in ({}, fused):
        # In double: the bias before the batch norm has only rounding for a gradient, as Adam sees.
        model = small_net().double()
        optimizer = optimizer_class(model.parameters(), lr=0.01, **arguments)
        for _ in range(3):
            optimizer.zero_grad()
            logits = model(torch.linspace(-1, 1, 64).double().view(4, 1, 4, 4))
            nn.functional.cross_entropy(logits, torch.arange(4)).backward()
            optimizer.step()
        models.append(model)
    for plain, quick in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(plain, quick, rtol=1e-6, atol=1e-6)


def test_fused_is_left_alone_where_it_does_not_apply() -> None:
    for name in ("RMSprop", "Adadelta", "LBFGS"):
        assert fused_arguments(getattr(torch.optim, name), "cpu") == {}
    assert fused_arguments(torch.optim.AdamW, "meta") == {}

    class AdamW(torch.optim.Optimizer):
        """Someone else's, of the same name."""

        def __init__(self, params: object, lr: float) -> None: ...

    assert fused_arguments(AdamW, "cpu") == {}
    for chosen in ({"fused": False}, {"foreach": True}, {"differentiable": True}):
        assert fused_arguments(torch.optim.AdamW, "cpu", chosen) == {}
    assert fused_arguments(torch.optim.AdamW, "cpu", {"fused": None}) == {"fused": True}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_fused_on_cuda(name: str) -> None:
    optimizer_class = getattr(torch.optim, name)
    fused = fused_arguments(optimizer_class, "cuda")
    assert fused == {"fused": True}
    model = small_net().cuda()
    model(torch.ones(2, 1, 4, 4, device="cuda")).square().sum().backward()
    optimizer_class(parameter_groups(model, decay_norm_and_bias=False), lr=0.01, **fused).step()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_yaml_makes_an_optimizer(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    config = yaml.safe_load(text)
    signature = read_signature(config["_target_"])
    assert signature is not None
    decay = config.pop("decay_norm_and_bias")
    assert decay is True
    assert check_arguments(signature, config, partial=True) == []
    module, _, name = config.pop("_target_").rpartition(".")
    optimizer_class = getattr(importlib.import_module(module), name)
    groups = parameter_groups(small_net(), decay_norm_and_bias=False)
    fused = fused_arguments(optimizer_class, "cpu", config)
    optimizer = optimizer_class(groups, **config, **fused)
    assert optimizer.param_groups[0]["lr"] == config["lr"]
    assert optimizer.param_groups[1]["weight_decay"] == 0.0


def test_there_are_all() -> None:
    names = {"adadelta", "adam", "adamw", "rmsprop", "sgd"}
    assert names <= {path.stem for path in CONFIGS}
