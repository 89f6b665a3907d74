"""configs/model: each file composes with the facts of a dataset and gives its model."""

import inspect
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(path.stem for path in (CONFIGS / "model").glob("*.yaml"))
FACTS = ["+dataset.num_classes=10"]


def compose_model(name, *overrides, shape="[3,32,32]"):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        facts = [*FACTS, f"+dataset.image_shape={shape}"]
        return compose(f"model/{name}", overrides=[*facts, *overrides]).model


@pytest.mark.parametrize("name", NAMES)
def test_composes_and_instantiates(name):
    cfg = compose_model(name)
    with torch.device("meta"):
        model = instantiate(cfg)
        assert model(torch.empty(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", NAMES)
def test_first_line_says_what_it_is(name):
    first, second, *_ = (CONFIGS / "model" / f"{name}.yaml").read_text().splitlines()
    assert first.startswith("# ")
    assert not second.startswith("#")


@pytest.mark.parametrize("name", NAMES)
def test_yaml_lists_every_argument_and_says_what_the_constructor_says(name):
    cfg = OmegaConf.to_container(compose_model(name), resolve=True)
    parameters = inspect.signature(get_class(cfg.pop("_target_"))).parameters
    assert set(cfg) == set(parameters)
    for key, parameter in parameters.items():
        if parameter.default not in (inspect.Parameter.empty, None):
            assert cfg[key] == parameter.default, key


@pytest.mark.parametrize("name", [name for name in NAMES if name[6:].isdigit()])
def test_presets_are_the_resnet_with_another_depth(name):
    cfg, base = compose_model(name), compose_model("resnet")
    assert cfg.depth == int(name.removeprefix("resnet"))
    cfg.depth = base.depth
    assert cfg == base


def test_values_can_be_overridden():
    assert compose_model("mlp", "model.hidden_sizes=[8]", "model.dropout=0.1").hidden_sizes == [8]
    cfg = compose_model(
        "torchvision", "model.name=mobilenet_v3_small", "+model.kwargs.dropout=0.3", shape="[1,8,8]"
    )
    assert instantiate(cfg)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
