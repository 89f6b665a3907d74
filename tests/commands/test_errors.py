"""Mistakes: one to six lines that name the key, the rule and the cure, and nothing left behind."""

import os
import shlex

import pytest
import torch
from mistakes import MISTAKES, assert_mended_by_the_user


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_costs_a_second(line, without_torch, tmp_path):
    outcome = without_torch(*shlex.split(line))
    assert_mended_by_the_user(outcome, MISTAKES[line].split("|"))
    assert not outcome.torch, "torch was loaded before the mistake was found"
    assert not any(tmp_path.iterdir()), "something was left behind"


def test_odd_bytes_and_lengths(without_torch, tmp_path):
    deep = "{a:" * 60 + "1" + "}" * 60
    for text in (
        "x" * 5000,
        "x" * 5000 + "=1",
        "name=" + "x" * 5000,
        "optimizer.lr=" + "9" * 5000,
        f"+model.kwargs={deep}",
        "seed=\udcff",
        "name=\udcff\udcfe",
        "name=\x00",
        "hydra.run.dir=\udcff",
        "seed=" + "[" * 500 + "]" * 500,
    ):
        outcome = without_torch("train", text)
        assert_mended_by_the_user(outcome, [])
        assert len(outcome.err) < 6000
        assert not any(tmp_path.iterdir()), text[:50]


# ---------------------------------------------------------------------- configs of the user's own

YAMLS = {
    "tab": ("_target_: dltrain.models.mlp.MLP\n\thidden_sizes: [3]\n", "yaml|mine.yaml|line 2"),
    "duplicate": ("a: 1\na: 2\n", "duplicate key a|mine.yaml"),
    "python tag": ("a: !!python/object/apply:os.system [touch pwned]\n", "tag|mine.yaml"),
    "unclosed": ("a: [1, 2\n", "yaml|mine.yaml"),
    "latin-1": (b"# caf\xe9\na: 1\n", "UTF-8"),
    "nul": (b"a: \x00\n", "yaml|mine.yaml"),
    "list": ("- a\n- b\n", "model needs a `_target_`"),
    "scalar": ("hello\n", "model needs a `_target_`"),
    "empty": ("", "model needs a `_target_`"),
    "number keys": ("1: 2\n", "model needs a `_target_`"),
    "unhashable key": ("? [1, 2]\n: 3\n", "mine.yaml"),
    "missing default": ("defaults: [nothere, _self_]\n", "model/mine.yaml|model=nothere"),
    "defaults are 3": ("defaults: 3\n", "model/mine"),
    "itself": ("defaults: [mine]\n", "defaults"),
    "package": ("# @package foo.bar\na: 1\n", "model/mine.yaml|foo"),
    "date": ("_target_: 2020-01-01\n", "model._target_"),
    "bomb": (
        "a0: &a0 [x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(40)),
        "mine.yaml|aliases",
    ),
    "alias of itself": ("a: &a [*a]\n", "mine.yaml|aliases"),
}


@pytest.mark.parametrize("name", YAMLS)
def test_a_broken_config_of_the_users_own(name, without_torch, tmp_path):
    content, named = YAMLS[name]
    folder = tmp_path / "mine" / "model"
    folder.mkdir(parents=True)
    folder.joinpath("mine.yaml").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    outcome = without_torch("train", "--config-dir", "mine", "model=mine")
    assert_mended_by_the_user(outcome, named.split("|"))
    assert not outcome.torch
    assert os.listdir(tmp_path) == ["mine"]


def test_an_honest_alias_is_no_bomb(without_torch, tmp_path):
    folder = tmp_path / "mine" / "model"
    folder.mkdir(parents=True)
    text = "_target_: dltrain.models.mlp.MLP\na: &a [8]\nhidden_sizes: *a\n"
    folder.joinpath("mine.yaml").write_text(text)
    outcome = without_torch("train", "--config-dir", "mine", "model=mine", "~model.a", "--cfg=job")
    assert outcome.code == 0, outcome.err
    assert "hidden_sizes" in outcome.out


# ---------------------------------------------------------------------- what only torch can tell

LATE = {
    "loader.batch_size=2000": "loader.batch_size|1257",
    "trainer.precision=fp16 trainer.device=cpu": "trainer.precision is|fp16|bf16",
    "model.activation=rellu": "model.activation is 'rellu'|relu",
    "model=resnet model.depth=19": "model.depth is 19|6n+2",
    "scheduler=multi_step scheduler.milestones=[75%,50%]": "milestones",
    "scheduler=one_cycle scheduler.pct_start=2": "pct_start",
    "task.label_smoothing=2": "task.label_smoothing is 2",
    "callbacks=[early_stopping] callbacks.early_stopping.patience=-1": "patience is -1",
    "augmentation=crop_flip augmentation.crop.padding=-1": "padding is -1",
    "dataset=circles model=cnn": "model",
    "trainer.max_time=5s scheduler.warmup=2epochs": "scheduler.warmup|percentage",
}


@pytest.mark.parametrize("line", LATE)
def test_what_only_torch_can_tell_leaves_nothing_behind_either(line, dltrain, tmp_path):
    outcome = dltrain("train", *shlex.split(line))
    assert_mended_by_the_user(outcome, LATE[line].split("|"))
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_absent(dltrain, tmp_path):
    outcome = dltrain("train", "trainer.device=cuda:1")
    assert_mended_by_the_user(outcome, ["trainer.device is cuda:1", "cpu or auto"])
    assert not any(tmp_path.iterdir())


def test_weights_that_are_none(dltrain, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 100)
    outcome = dltrain("train", "init_from=bad.safetensors")
    assert_mended_by_the_user(outcome, ["init_from", "bad.safetensors"])
    assert os.listdir(tmp_path) == ["bad.safetensors"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(dltrain, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    outcome = dltrain("train", "hydra.run.dir=locked/run")
    assert_mended_by_the_user(outcome, ["locked/run"])


def test_a_file_where_the_directory_should_be(dltrain, tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file", "file/run"):
        assert_mended_by_the_user(dltrain("train", f"hydra.run.dir={place}"), [place])
    assert os.listdir(tmp_path) == ["file"]
