"""Weights to start from: what fits is loaded, what does not is named."""

import pickle

import pytest
import torch
from torch import nn

from dltrain.engine.tensors import write_tensors
from dltrain.engine.weights import load_weights
from dltrain.errors import UserError
from dltrain.models.mlp import MLP
from dltrain.models.resnet import ResNet


def mlp(num_classes=3, hidden=4):
    return MLP(input_shape=[1, 2, 2], num_classes=num_classes, hidden_sizes=[hidden])


def assert_same(model, weights):
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize("form", ["safetensors", "run", "pth", "pth in a checkpoint"])
def test_every_form_is_read(tmp_path, form):
    weights = mlp().state_dict()
    if form == "safetensors":
        write_tensors(path := tmp_path / "w.safetensors", weights)
    elif form == "run":
        write_tensors((path := tmp_path) / "model.safetensors", weights)
    else:
        torch.save({"model": weights} if "in" in form else weights, path := tmp_path / "w.pth")
    model = mlp()
    load_weights(model, path)
    assert_same(model, weights)


def test_torchvisions_weights_give_torchvisions_output(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    ours = ResNet(depth=18, input_shape=[3, 64, 64], num_classes=7, stem="imagenet").eval()
    load_weights(ours, tmp_path / "resnet18.pth")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


def test_a_head_for_other_classes_keeps_its_initialisation(tmp_path):
    torch.save(mlp(num_classes=5).state_dict(), tmp_path / "w.pth")
    model = mlp(num_classes=3)
    head = model.head.weight.clone()
    load_weights(model, tmp_path / "w.pth")
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.stages[0].weight, torch.load(tmp_path / "w.pth")["stages.0.weight"])


def test_what_does_not_fit_is_named(tmp_path):
    torch.save(mlp(hidden=6).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(UserError, match=r"stages\.0\.\w+ has the shape"):
        load_weights(mlp(), tmp_path / "wide.pth")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"are missing.*are not in the model"):
        load_weights(mlp(), tmp_path / "other.pth")


class Hostile:
    def __reduce__(self):
        return print, ("this code must never run",)


def test_a_file_with_code_in_it_is_refused_unrun(tmp_path, capsys):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Hostile()}))
    torch.save({"a": Hostile()}, tmp_path / "zip.pth")
    for name in ("w.pth", "zip.pth"):
        with pytest.raises(UserError, match=r"cannot be read|holds no weights"):
            load_weights(mlp(), tmp_path / name)
    assert "never run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x02]q\x00.", b"\x00" * 64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_a_message(tmp_path, content, suffix):
    (tmp_path / f"w{suffix}").write_bytes(content)
    with pytest.raises(UserError, match="init_from"):
        load_weights(mlp(), tmp_path / f"w{suffix}")
