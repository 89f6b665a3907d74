"""`dltrain info`: what can be chosen, and what this machine has."""

import pytest
from omegaconf import OmegaConf

from dltrain.config.compose import compose, config_dir, job_config
from dltrain.config.menu import typed_keys

GROUPS = sorted(path.name for path in config_dir().iterdir() if path.is_dir())


@pytest.mark.parametrize("group", [name for name in GROUPS if name != "hydra"])
def test_every_choice_is_listed_with_a_line_of_its_own(group, without_torch):
    outcome = without_torch("info", group)
    assert (outcome.code, outcome.err, outcome.torch) == (0, "", False)
    heading, *lines = outcome.out.splitlines()
    assert heading == group
    listed = {line.split()[0]: line.split()[1:] for line in lines if line[2:3].strip()}
    assert set(listed) == {path.stem for path in (config_dir() / group).glob("*.yaml")}
    assert all(listed.values()), "a choice without its line"


@pytest.mark.parametrize(
    ("group", "choice", "count"),
    [
        ("augmentation", "mixup_cutmix", 4),
        ("augmentation", "imagenet", 4),
        ("model", "resnet18", 4),
    ],
)
def test_keys_are_shown_as_they_are_typed_with_the_value_that_they_have(group, choice, count):
    """Typed again, they compose, and change nothing; those of what a yaml builds on are shown."""
    files = {path.stem: path for path in (config_dir() / group).glob("*.yaml")}
    keys = typed_keys(group, choice, files)
    assert len(keys) == count
    assert "${" not in "".join(keys)
    first, second = (job_config(compose([f"{group}={choice}", *each])) for each in ((), keys))
    assert OmegaConf.to_container(first)[group] == OmegaConf.to_container(second)[group]


def test_a_group_is_listed_with_keys_and_one_choice_alone(without_torch):
    outcome = without_torch("info", "augmentation", "augmentation=crop_flip", "trainer")
    assert (outcome.code, outcome.torch) == (0, False)
    of_group, alone = outcome.out.split("augmentation\n")[1:]
    line = "                  augmentation.crop.padding=4 augmentation.flip.probability=0.5\n"
    assert line in of_group
    assert "cutout.size=0.5" in of_group
    assert line in alone
    assert alone.count("  crop_flip") == 1
    assert "cutout" not in alone
    assert "'trainer.log_every=50 steps'" in outcome.out  # as a shell needs it


def test_an_experiment_shows_what_it_sets_where_it_is_asked_for(without_torch):
    outcome = without_torch("info", "experiment", "experiment=cifar10_resnet18")
    listed, alone = outcome.out.split("experiment\n")[1:]
    assert "loader.batch_size=128" not in listed
    for setting in ("dataset=cifar10", "augmentation=crop_flip", "loader.batch_size=128"):
        assert setting in alone
    assert "experiment." not in alone


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("augmentations", "no config group `augmentations`; did you mean `augmentation`"),
        ("augmentation=crop_flop", "no `augmentation=crop_flop`; did you mean `crop_flip`"),
        ("augmentation=", "no `augmentation=`; one of color, crop"),
    ],
)
def test_what_does_not_exist_is_answered_by_what_is_near(name, message, without_torch):
    outcome = without_torch("info", name)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("# A\nwidth: [1\n", "(no yaml, see line "),
        ("# A\na: &a [x, x]\nb: [*a, *a]\nc: &c [*c]\n", "(larger than any config is)"),
        ("# A\ndefaults: [mine, nothing]\nwidth: 3\n", "model.width=3"),
        ("# A\n- 1\n", ""),
        ("# A\ntext: two words\n", "'model.text=two words'"),
    ],
)
def test_configs_of_ones_own_are_shown_or_said_to_be_broken(content, told, tmp_path, without_torch):
    folder = tmp_path / "configs" / "model"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(content)
    outcome = without_torch("info", "model=mine", "--config-dir", str(folder.parent))
    assert outcome.code == 0
    assert "  mine           A\n" in outcome.out
    assert told in outcome.out


def test_several_groups_in_the_order_asked_for(without_torch):
    outcome = without_torch("info", "scheduler", "model")
    assert [x for x in outcome.out.splitlines() if not x.startswith(" ")] == ["scheduler", "model"]


def test_alone_it_lists_all_groups_and_the_machine(dltrain):
    outcome = dltrain("info")
    assert outcome.code == 0
    headings = [line for line in outcome.out.splitlines() if not line.startswith(" ")]
    assert headings[0] == "dataset"
    assert headings[-1] == "machine"
    assert set(headings) == {*GROUPS, "hydra/launcher", "hydra/sweeper", "machine"} - {"hydra"}
    machine = outcome.out.partition("machine\n")[2]
    for what in ("python", "dltrain", "hydra-core", "tensorboard", "cpu", "torch", "torchvision"):
        assert f"  {what} " in machine


@pytest.mark.parametrize("group", ["hydra/launcher", "hydra/sweeper"])
def test_who_makes_and_runs_the_jobs_of_a_sweep_is_listed_and_in_the_help(group, without_torch):
    outcome = without_torch("info", group)
    assert (outcome.code, outcome.err, outcome.torch) == (0, "", False)
    listed = {line.split()[0]: line.split()[1:] for line in outcome.out.splitlines()[1:]
              if line[2:3].strip()}  # fmt: skip
    files = {path.stem for path in (config_dir() / group).glob("*.yaml")} - {"recorded"}
    assert listed.keys() == files | ({"basic"} if group.endswith("launcher") else set())
    assert all(listed.values()), "a choice without its line"
    help_text = (config_dir() / "hydra" / "default.yaml").read_text()
    assert all(name in help_text.partition("header:")[2] for name in listed)


def test_keys_of_a_launcher_are_typed_with_dots(without_torch):
    outcome = without_torch("info", "hydra/launcher=submitit_slurm")
    assert "hydra.launcher.additional_parameters.requeue=true" in outcome.out
    assert "hydra/launcher." not in outcome.out
