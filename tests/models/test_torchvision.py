"""torchvision's models: cut into parts, they still compute what torchvision's own compute."""

import subprocess
import sys
import warnings
from typing import get_type_hints

import pytest
import torch
import torchvision.models

from dltrain.models.torchvision import TorchvisionModel

# One of each class of torchvision, at the smallest size that it reads in reasonable time.
ARCHITECTURES = {
    "alexnet": 63,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "vgg11_bn": 32,
    "vit_b_32": 64,
}


def make(name, size=32, channels=3, **kwargs):
    shape = (channels, size, size)
    return TorchvisionModel(name=name, input_shape=shape, num_classes=5, kwargs=kwargs)


LARGE = ("maxvit_t", "vgg11_bn", "vit_b_32")  # seconds each


def reference(name, size):
    """torchvision's own, as its documentation says to build it."""
    kwargs = {}
    if name in ("googlenet", "inception_v3"):
        kwargs = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit"):
        kwargs = {"image_size": size}
    return torchvision.models.get_model(name, num_classes=5, **kwargs)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param(*each, marks=pytest.mark.slow if each[0] in LARGE else ())
        for each in ARCHITECTURES.items()
    ],
)
def test_cut_model_computes_what_torchvisions_computes(name, size):
    torch.manual_seed(1)
    ours, theirs = make(name, size), reference(name, size).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # so that no zero-initialised layer hides a mistake
            if parameter.count_nonzero() == 0:
                parameter.normal_(std=0.02)
    ours.load_state_dict(ours.rename_weights(theirs.state_dict()))  # strict: every name, no other
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std() > 0
        features = ours.eval().features(x)
        torch.testing.assert_close(ours.head(features), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(ours(x), ours.head(features))
    assert features.ndim == (3 if name.startswith("vit") else 4)
    assert features.shape[0] == 2
    if features.ndim == 4:  # [B, D, H', W'], as Grad-CAM wants it, swin too
        assert features.shape[1] > features.shape[2]


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "densenet121", "vit_b_32", "swin_t"])
def test_training_reaches_every_parameter_of_torchvisions_model(name):
    model = make(name)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.count_nonzero() == 0:  # a zero-initialised head passes no gradient back
                parameter.normal_(std=0.02)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_every_classification_model_of_torchvision_is_offered():
    """Each class is in ARCHITECTURES above; a new one of a newer torchvision would be seen here."""

    def class_of(name):
        return get_type_hints(torchvision.models.get_model_builder(name))["return"].__name__

    known = {class_of(name) for name in ARCHITECTURES}
    offered = torchvision.models.list_models(module=torchvision.models)
    assert not [name for name in offered if class_of(name) not in known]


def test_our_names_and_auxiliary_heads_pass_through_renaming():
    model = make("googlenet")
    state = model.state_dict()
    assert list(model.rename_weights(state)) == list(state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = torchvision.models.googlenet(num_classes=5, init_weights=True)
    model.load_state_dict(model.rename_weights(theirs.state_dict()))


def test_names_in_published_files_are_understood():
    densenet, vit = make("densenet121"), make("vit_b_32")
    assert list(
        densenet.rename_weights({"features.denseblock1.denselayer2.norm.1.weight": torch.ones(1)})
    ) == ["stages.0.denselayer2.norm1.weight"]
    old = {"encoder.layers.encoder_layer_0.mlp.linear_2.bias": torch.ones(1)}
    assert list(vit.rename_weights(old)) == ["stages.encoder_layer_0.mlp.3.bias"]
    assert "stages.encoder_layer_0.mlp.3.bias" in vit.state_dict()
    assert "stages.0.denselayer2.norm1.weight" in densenet.state_dict()


def test_gray_images_are_repeated():
    model = make("mobilenet_v3_small", channels=1).eval()
    color = make("mobilenet_v3_small").eval()
    theirs = reference("mobilenet_v3_small", 32).state_dict()
    for each in (model, color):
        each.load_state_dict(each.rename_weights(theirs))
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), color(x.repeat(1, 3, 1, 1)))


def test_construction_leaves_the_model_ready_to_train():
    model = make("resnet18")
    assert all(module.training for module in model.modules())
    assert all(int(v) == 0 for k, v in model.state_dict().items() if k.endswith("_tracked"))
    assert {p.device.type for p in model.parameters()} == {"cpu"}


def test_keyword_arguments_reach_the_builder():
    assert make("mobilenet_v3_small", dropout=0.7).head[-1][2].p == 0.7


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("mobilnet_v3_small", "mobilenet_v3_small"),
        ("ResNet18", "resnet18"),
        ("zzz", "it has alexnet"),
    ],
)
def test_unknown_name_lists_near_ones(name, near):
    with pytest.raises(ValueError, match=f"model.name is '{name}'.*{near}"):
        make(name)


def test_kwargs_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"resnet18.*'depht': 3.*unexpected keyword argument"):
        make("resnet18", depht=3)
    with pytest.raises(ValueError, match=r"model\.kwargs sets weights"):
        make("resnet18", weights="DEFAULT")


def test_images_that_an_architecture_cannot_read_are_refused():
    with pytest.raises(ValueError, match="alexnet cannot read images of 8x8"):
        make("alexnet", size=8)
    with pytest.raises(ValueError, match="vit_b_32 for images of 33x33"):
        make("vit_b_32", size=33)
    with pytest.raises(ValueError, match="vit_b_32 reads square images, and these are 32x64"):
        TorchvisionModel(name="vit_b_32", input_shape=(3, 32, 64), num_classes=5)
    with pytest.raises(ValueError, match="maxvit_t for images of 32x32"):
        make("maxvit_t", size=32)
    with pytest.raises(ValueError, match="1 or 3 channels; these images have 4"):
        make("resnet18", channels=4)
    with pytest.raises(ValueError, match=r"resnet18 reads images.*\[2\]"):
        TorchvisionModel(name="resnet18", input_shape=[2], num_classes=5)


@pytest.mark.parametrize(
    "failure",
    [
        'raise RuntimeError("operator torchvision::nms does not exist")',
        "raise AttributeError(\"module 'torchvision' has no attribute 'extension'\")",
        'raise OSError("undefined symbol: _ZN3c10")',
        "import no_such_module_of_torchvision",
    ],
)
def test_broken_torchvision_is_reported_with_its_cure(failure, tmp_path, monkeypatch):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(failure)
    for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="cannot import torchvision") as caught:
        make("resnet18")
    assert "pip install torch torchvision" in str(caught.value)
    assert str(caught.value.__cause__) in str(caught.value)


def test_missing_torchvision_is_reported_with_its_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match="pip install torch torchvision"):
        make("resnet18")


def test_importing_our_module_does_not_import_torchvision():
    code = "import sys, dltrain.models.torchvision; sys.exit('torchvision' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
