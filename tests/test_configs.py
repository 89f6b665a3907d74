"""configs/: every choice of every group says what it is, composes, passes the check, and runs."""

import math

import pytest
import torch
import yaml

from dltrain import build, build_data, build_loaders, cli
from dltrain.commands.info import first_comment
from dltrain.config.check import check
from dltrain.config.compose import compose, config_dir, job_config
from dltrain.data.synthetic import Synthetic

YAMLS = sorted(config_dir().rglob("*.yaml"))
CHOICES = sorted(
    (path.parent.relative_to(config_dir()).as_posix(), path.stem)
    for path in YAMLS
    if path.parent != config_dir() and path.parent.parent.name != "hydra"
)
OURS = [choice for choice in CHOICES if choice[0] not in ("hydra", "experiment")]
# Groups whose choices are tried by training with them; those of the others are only built, and
# those of `sweep` are not for a single run: tests/commands/test_sweep_space.py
TRAINED = [choice for choice in OURS if choice[0] not in ("dataset", "model", "sweep")]
LISTS = ("callbacks", "loggers")
# What would be read from the data, where there is none
FACTS = {
    ("dataset", "image_folder"): ("dataset.num_classes=7",),
    ("dataset", "packed"): ("dataset.num_classes=7", "dataset.mean=[0.5]", "dataset.std=[0.5]"),
}
SMALL = {
    "dataset": "synthetic",
    "dataset.image_shape": "[3,8,8]",
    "dataset.num_samples": "32",
    "dataset.num_val": "16",
    "dataset.num_test": "16",
    "model.hidden_sizes": "[8]",
    "loader.batch_size": "8",
    "trainer.max_steps": "2",
    "trainer.device": "cpu",
    "trainer.threads": "1",
    "callbacks": "none",
    "loggers": "none",
}


def name(value):
    if isinstance(value, tuple):
        return "=".join(value)
    return value.relative_to(config_dir()).with_suffix("").as_posix()


def choose(group, choice):
    return f"{group}=[{choice}]" if group in LISTS else f"{group}={choice}"


def composed(*overrides):
    return check(job_config(compose(overrides)))


def names_in(path):
    """The groups that a yaml's defaults name."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))["defaults"]
    return [key for entry in entries if isinstance(entry, dict) for key in entry]


# ---------------------------------------------------------------------- what can be read


@pytest.mark.parametrize("path", YAMLS, ids=name)
def test_first_line_says_what_it_is(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    headline = lines[lines[0] == "# @package _global_"]
    assert headline == f"# {first_comment(path)}"
    assert len(headline) > 10
    assert max(map(len, lines)) <= 100


def test_table_of_contents_names_every_group():
    groups = {group for group, _ in CHOICES if not group.startswith("hydra/")}
    assert set(names_in(config_dir() / "train.yaml")) == groups


@pytest.mark.parametrize("group", sorted({g for g, _ in CHOICES if not g.startswith("hydra")}))
def test_info_lists_every_choice(group, capsys):
    assert cli.run(["info", group]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == group
    listed = [line.split()[0] for line in lines if line[:3].strip()]
    assert listed == sorted(choice for each, choice in CHOICES if each == group)


# ---------------------------------------------------------------------- what can be made


@pytest.mark.parametrize("choice", OURS, ids=name)
def test_choice_composes_and_passes_the_check(choice):
    config = composed(choose(*choice), *FACTS.get(choice, ()))
    assert config["name"]


@pytest.mark.parametrize("dataset", [choice for group, choice in OURS if group == "dataset"])
@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_facts_of_the_dataset_reach_data_task_and_model(dataset, model):
    """Made-up data with the facts of each dataset passes through its loader and its model."""
    typed = FACTS.get(("dataset", dataset), ())
    config = composed(f"dataset={dataset}", f"model={model}", "loader.batch_size=4", *typed)
    facts = config["dataset"]
    assert build.make(config, "dataset").num_classes == facts["num_classes"]
    assert config["task"]["num_classes"] == config["model"]["num_classes"] == facts["num_classes"]
    assert config["model"]["input_shape"] == facts["image_shape"]
    assert {len(facts["mean"]), len(facts["std"])} <= {1, facts["image_shape"][0]}

    keys = ("num_classes", "image_shape", "mean", "std")
    made = Synthetic(
        **{key: facts[key] for key in keys}, num_samples=8, num_val=4, num_test=4, split_seed=0
    )
    device = torch.device("cpu")
    data = build_data.Data(made, made.load())
    place = build_loaders.placement(config, data, device)
    loader = build_loaders.make_loader(config, data, "train", device, place)
    batch = next(loader.epoch(0))
    assert batch.inputs.shape == (4, *facts["image_shape"])
    logits = build.make_model(config, device)(batch.inputs)
    assert logits.shape == (4, facts["num_classes"])


@pytest.mark.parametrize("model", [choice for group, choice in OURS if group == "model"])
def test_model_is_built_for_the_images_of_the_default_dataset(model):
    config = composed(f"model={model}")
    shape = config["dataset"]["image_shape"]
    with torch.device("meta"):  # shapes without numbers: a ResNet-152 in no time
        built = build.make(config, "model")
        logits = built(torch.empty(2, *shape))
    assert logits.shape == (2, config["dataset"]["num_classes"])
    assert {"stem", "stages", "head"} <= {part for part, _ in built.named_children()}


@pytest.mark.parametrize("choice", TRAINED, ids=name)
def test_choice_trains(choice, tmp_path, monkeypatch, capsys):
    if choice[1] in ("wandb", "mlflow"):
        pytest.importorskip(choice[1], reason=f"needs {choice[1]}: dltrain[{choice[1]}]")
    monkeypatch.chdir(tmp_path)
    rest = [f"{key}={value}" for key, value in SMALL.items() if key != choice[0]]
    assert cli.run(["train", *rest, choose(*choice)]) == 0, capsys.readouterr().err
    (run_dir,) = (tmp_path / "outputs" / "synthetic_mlp").iterdir()
    summary = yaml.safe_load((run_dir / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("completed", 2)
    assert math.isfinite(summary["test"]["loss"])
