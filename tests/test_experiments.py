"""configs/experiment/: each recipe is the published one, and its header's commands run."""

import math
import shlex
from dataclasses import dataclass, field
from itertools import islice

import pytest
import torch
import yaml

from dltrain import build, build_data, build_loaders, cli
from dltrain.config.check import check
from dltrain.config.compose import compose, config_dir, job_config
from dltrain.config.durations import parse_duration

PATHS = sorted((config_dir() / "experiment").glob("*.yaml"))
NAMES = [path.stem for path in PATHS]
TRAINING_SETS = {"MNIST": 60_000, "CIFAR10": 50_000, "CIFAR100": 50_000, "Digits": 1797 - 180 - 360}
CIFAR_DROPS = {"0 epochs": 0.1, "99 epochs": 0.1, "100 epochs": 0.01, "150 epochs": 0.001}
CIFAR_SGD = {"momentum": 0.9, "nesterov": False, "weight_decay": 1e-4}
HE_DROPS = {
    "0 steps": 0.1,
    "31999 steps": 0.1,
    "32000 steps": 0.01,
    "47999 steps": 0.01,
    "48000 steps": 0.001,
    "63999 steps": 0.001,
}


@dataclass
class Recipe:
    """What the source that the yaml's header names says of its run."""

    parameters: str  # in millions, to as many digits as published
    length: str
    lr: dict[str, float]  # at these points of the run
    batch_size: int = 128
    augmentation: tuple[str, ...] = ("crop", "flip")
    optimizer: dict[str, object] = field(default_factory=lambda: dict(CIFAR_SGD))


def he_et_al(parameters, lr=None):
    return Recipe(parameters, "64000 steps", {**HE_DROPS, **(lr or {})})


def cifar100(parameters, nesterov):
    lr = {"0 epochs": 0.1, "59 epochs": 0.1, "60 epochs": 0.02, "119 epochs": 0.02}
    lr |= {"120 epochs": 0.004, "160 epochs": 8e-4, "199 epochs": 8e-4}
    optimizer = CIFAR_SGD | {"nesterov": nesterov, "weight_decay": 5e-4}
    return Recipe(parameters, "200 epochs", lr, optimizer=optimizer)


RECIPES = {
    "cifar10_resnet20": he_et_al("0.27"),
    "cifar10_resnet32": he_et_al("0.46"),
    "cifar10_resnet44": he_et_al("0.66"),
    "cifar10_resnet56": he_et_al("0.85"),
    "cifar10_resnet110": he_et_al("1.7", {"0 steps": 0.01, "400 steps": 0.1}),
    "cifar10_resnet20_200ep": Recipe("0.27", "200 epochs", CIFAR_DROPS),
    "cifar10_resnet18": Recipe("11.17", "200 epochs", CIFAR_DROPS),
    "cifar10_resnet18_cos": Recipe(
        "11.17",
        "200 epochs",
        {
            f"{epoch} epochs": 0.05 * (1 + math.cos(math.pi * epoch / 200))
            for epoch in (0, 50, 100, 150, 199)
        },
        optimizer=CIFAR_SGD | {"weight_decay": 5e-4},
    ),
    "cifar100_resnet18": cifar100("11.2", nesterov=True),
    "cifar100_resnet50": cifar100("23.71", nesterov=False),
    "mnist_mlp": Recipe(
        "0.669706",
        "20 epochs",
        {"0 epochs": 1e-3, "19 epochs": 1e-3},
        augmentation=(),
        optimizer={"alpha": 0.9, "eps": 1e-7, "momentum": 0.0, "weight_decay": 0.0},
    ),
}
# Those whose optimizer and schedule are choices of their groups as they are
PLAIN = sorted(RECIPES.keys() - {"cifar100_resnet18", "cifar100_resnet50", "mnist_mlp"})


def composed(*overrides):
    return check(job_config(compose(overrides)))


def plan_of(config):
    """The plan of the run on the real data, which need not be here."""
    dataset = config["dataset"]
    name = dataset["_target_"].rpartition(".")[2]
    size = dataset.get("num_samples") or TRAINING_SETS[name] - dataset.get("num_val", 0)
    return build.make_plan(config, math.ceil(size / config["loader"]["batch_size"]))


def steps(duration, plan):
    length = parse_duration(duration)
    return length.steps(steps_per_epoch=plan.steps_per_epoch, num_steps=plan.num_steps)


# ---------------------------------------------------------------------- what its header says


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_header_gives_the_command_and_what_comes_out(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    header = [line for line in lines if line.startswith("#")]
    assert header[0] == "# @package _global_"
    assert header[2:4] == ["#", f"#   dltrain train experiment={path.stem}"]
    words = {line[2:].partition(" ")[0] for line in header}
    assert {"measured", "hardware"} <= words
    assert path.stem not in RECIPES or "published" in words


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_commands_of_the_header_pass_the_check(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    commands = [line[4:] for line in lines if line.startswith("#   dltrain train ")]
    assert commands
    for line in commands:
        _, _, *words = shlex.split(line, comments=True)
        overrides = [word for word in words if word != "-m"]
        assert f"experiment={path.stem}" in overrides
        composed(*(word if "[" in word else word.partition(",")[0] for word in overrides))


def test_every_published_recipe_has_its_numbers_here():
    published = {path.stem for path in PATHS if "\n# published " in path.read_text("utf-8")}
    assert published == RECIPES.keys()


# ---------------------------------------------------------------------- what the config says


@pytest.mark.parametrize("name", NAMES)
def test_runs_go_to_a_folder_of_its_name(name):
    cfg = compose([f"experiment={name}"])
    assert cfg.name == name
    assert cfg.hydra.run.dir.startswith(f"outputs/{name}/")


@pytest.mark.parametrize("name", RECIPES)
def test_settings_are_those_of_its_source(name):
    config, recipe = composed(f"experiment={name}"), RECIPES[name]
    assert config["loader"]["batch_size"] == recipe.batch_size
    assert tuple(config["augmentation"] or ()) == recipe.augmentation
    assert recipe.optimizer.items() <= config["optimizer"].items()
    assert config["optimizer"]["decay_norm_and_bias"], "none of these sources spares them"
    assert config["trainer"]["budget"] == recipe.length
    assert plan_of(config).num_steps == steps(recipe.length, plan_of(config))


@pytest.mark.parametrize("name", RECIPES)
def test_learning_rate_is_that_of_its_source(name):
    config = composed(f"experiment={name}")
    plan = plan_of(config)
    schedule = build.make_schedule(config, plan, allowed=())
    for point, expected in RECIPES[name].lr.items():
        factor = schedule(steps(point, plan) / plan.num_steps)
        assert config["optimizer"]["lr"] * factor == pytest.approx(expected, rel=1e-6), point


@pytest.mark.parametrize("name", RECIPES)
def test_number_of_parameters_is_the_published_one(name):
    with torch.device("meta"):
        model = build.make(composed(f"experiment={name}"), "model")
    number = sum(parameter.numel() for parameter in model.parameters())
    published = RECIPES[name].parameters
    assert f"{number / 1e6:.{len(published.partition('.')[2])}f}" == published


@pytest.mark.parametrize("name", NAMES)
def test_budget_of_the_user_wins(name):
    shorter = composed(f"experiment={name}", "trainer.max_steps=7")
    assert plan_of(shorter).num_steps == 7
    longer = composed(f"experiment={name}", "trainer.max_steps=1000000000")
    assert plan_of(longer).num_steps == 1_000_000_000


@pytest.mark.parametrize("name", PLAIN)
def test_another_optimizer_and_schedule_can_be_tried(name):
    config = composed(f"experiment={name}", "optimizer=adamw", "scheduler=one_cycle")
    assert config["optimizer"]["_target_"] == "torch.optim.AdamW"
    overfit = composed(f"experiment={name}", "debug=overfit")
    assert not overfit["augmentation"]


# ---------------------------------------------------------------------- what it does


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_train_on_data_of_its_shape(name):
    facts = composed(f"experiment={name}")["dataset"]
    swap = {
        "dataset": "synthetic",
        "dataset.image_shape": facts["image_shape"],
        "dataset.num_classes": facts["num_classes"],
        "dataset.mean": facts["mean"],
        "dataset.std": facts["std"],
        "dataset.num_samples": 8,
        "dataset.num_val": 4,
        "dataset.num_test": 4,
        "loader.batch_size": 4,
    }
    config = composed(f"experiment={name}", *(f"{key}={value}" for key, value in swap.items()))
    data, device = build_data.read_data(config), torch.device("cpu")
    torch.manual_seed(config["seed"])
    place = build_loaders.placement(config, data, device)
    loader = build_loaders.make_loader(config, data, "train", device, place)
    plan = build.make_plan(config, len(loader))
    model = build.make_model(config, device)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    task, update = build.make(config, "task"), build.make_update(config, model, plan, "fp32")
    for step, batch in enumerate(islice(loader.epoch(0), 2)):
        assert batch.inputs.shape == (4, *facts["image_shape"])
        loss, _ = task.train(model, batch)
        assert math.isfinite(loss.item())
        update.backward(loss)
        update(step / plan.num_steps)
    after = list(model.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in after)
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def train(tmp_path, monkeypatch, *overrides):
    """The summary of a run through the command line."""
    monkeypatch.chdir(tmp_path)
    rest = ["trainer.device=cpu", "trainer.threads=1", "callbacks=none", "loggers=none"]
    assert cli.run(["train", *overrides, *rest]) == 0
    (summary,) = tmp_path.glob("outputs/*/*/summary.json")
    return yaml.safe_load(summary.read_text())


def test_linear_model_cannot_tell_the_circles_apart(tmp_path, monkeypatch):
    summary = train(tmp_path, monkeypatch, "experiment=lecture_circles")
    assert summary["test"]["loss"] == pytest.approx(math.log(2), abs=0.01)
    assert summary["test"]["accuracy"] < 0.7  # a line far from the middle is right by 65 %


def test_linear_model_tells_the_circles_apart_in_polar_coordinates(tmp_path, monkeypatch):
    summary = train(tmp_path, monkeypatch, "experiment=lecture_circles_polar")
    assert summary["test"]["accuracy"] >= 0.99


@pytest.mark.parametrize(("activation", "learns"), [("sigmoid", False), ("relu", True)])
def test_sigmoids_stop_the_gradient(activation, learns, tmp_path, monkeypatch):
    name = "experiment=lecture_vanishing_gradient"
    summary = train(
        tmp_path, monkeypatch, name, f"model.activation={activation}", "trainer.max_epochs=15"
    )
    assert (summary["test"]["accuracy"] > 0.8) == learns
    if not learns:
        assert summary["test"]["loss"] == pytest.approx(math.log(10), abs=0.02)
