"""No `_target_` leads out of what is allowed, by its text or as an object, under any alias."""

import importlib
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch

from dltrain.config.signatures import TargetError
from dltrain.config.targets import check_object, check_target


def resolve(target: str) -> object:
    """As Hydra does it: attributes, and imports where there are none."""
    first, *rest = target.split(".")
    found = importlib.import_module(first)
    for index, part in enumerate(rest):
        if not hasattr(found, part):
            importlib.import_module(".".join([first, *rest[: index + 1]]))
        found = getattr(found, part)
    return found


@pytest.mark.parametrize(
    "target",
    [
        "torch.nn.Linear",
        "torch.nn.Parameter",
        "torch.nn.modules.linear.Linear",
        "torch.nn.modules.module.torch.nn.Linear",
        "torch.optim.AdamW",
        "torch.optim.lr_scheduler.StepLR",
        "torchvision.models.ResNet",
        "torchvision.transforms.Normalize",
        "torchvision.transforms.v2.RandomCrop",
    ],
)
def test_classes_of_torch_and_torchvision(target: str) -> None:
    check_target(target)
    check_object(resolve(target))


@pytest.mark.parametrize(
    "target",
    [
        "torch.load",
        "torch.save",
        "torch.hub.load",
        "torch.jit.load",
        "torch.utils.data.DataLoader",
        "torch.utils.cpp_extension.load",
        "torch.nn.functional.relu",
        "torch.nn.Module.load_state_dict",
        "torch.nn.modules.module.torch.load",
        "torch.nn.modules.module.warnings.warn",
        "torch.optim.lr_scheduler.partial",
        "torchvision.models.resnet18",
        "torchvision.datasets.MNIST",
        "torchvision.io.read_file",
        "builtins.eval",
        "builtins.open",
        "os.system",
        "subprocess.Popen",
        "importlib.import_module",
        "hydra.utils.get_method",
        "dltrain.config.sources.os.system",
        "dltrain.config.sources.importlib.import_module",
        "dltrain.config.targets.check_target",
        "dltrain.config.schema.TrainConfig",
    ],
)
def test_everything_else_is_refused(target: str) -> None:
    top = r"--allow-target [a-z_]+$"
    with pytest.raises(TargetError, match=top):
        check_target(target)
    with pytest.raises(TargetError, match=top):
        check_object(resolve(target))


def test_what_is_not_a_definition_is_refused() -> None:
    for made in (partial(os.system, "true"), {}.update, torch.add, 3, torch.nn.ReLU(), os):
        with pytest.raises(TargetError):
            check_object(made)


def test_the_message_names_the_rule_and_the_cure() -> None:
    with pytest.raises(TargetError) as caught:
        check_target("torch.load")
    assert str(caught.value) == (
        "`torch.load` (torch.serialization.load) is not allowed as a _target_: classes of dltrain "
        "are, and of torch.nn, torch.optim, torchvision.models, torchvision.transforms; "
        "if you trust its code, add --allow-target torch"
    )


@pytest.fixture
def my_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    text = (
        "import os, functools\nclass Net: ...\ndef make(a): ...\nsmall = functools.partial(make)\n"
    )
    (tmp_path / "targets_my_net.py").write_text(text)
    (tmp_path / "targets_my_net_too.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return importlib.import_module("targets_my_net")


def test_the_command_line_can_vouch_for_a_package(my_net: object) -> None:
    allowed = ["targets_my_net"]
    for name in ("Net", "make", "small"):
        check_target(f"targets_my_net.{name}", allowed)
        check_object(getattr(my_net, name), allowed)
        with pytest.raises(TargetError, match=r"--allow-target targets_my_net$"):
            check_target(f"targets_my_net.{name}")
    for target in ("targets_my_net.os.system", "targets_my_net_too.Net", "torch.load"):
        with pytest.raises(TargetError):
            check_target(target, allowed)
    with pytest.raises(TargetError):
        check_object(subprocess.Popen, allowed)
    check_target("torch.load", ["torch"])


def test_parts_of_dltrain_are_allowed_but_not_what_they_import() -> None:
    for target in ("dltrain.schedulers.cosine.Cosine", "dltrain.data.mnist.MNIST"):
        check_target(target)
        check_object(resolve(target))
    for target in ("dltrain.schedulers.cosine.math.cos", "dltrain.optimizers.groups.nn.init.ones_"):
        with pytest.raises(TargetError):
            check_target(target)
        with pytest.raises(TargetError):
            check_object(resolve(target))


def test_what_a_part_makes_while_it_is_imported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "dltrain" / "models"
    place.mkdir(parents=True)
    (place / "__init__.py").touch()
    (place / "probe.py").write_text("import os\nrun = os.system\nmade = [os.system][0]\n")
    search = [str(tmp_path / "dltrain"), *importlib.import_module("dltrain").__path__]
    spec = importlib.import_module("dltrain").__spec__
    monkeypatch.setattr(spec, "submodule_search_locations", search)
    for name in ("run", "made"):
        with pytest.raises(TargetError, match="is not allowed"):
            check_target(f"dltrain.models.probe.{name}")
