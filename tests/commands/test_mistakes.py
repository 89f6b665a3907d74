"""Mistakes of every kind are answered before torch is loaded, and leave nothing behind."""

import os
import shlex
import subprocess
import sys
import time

import pytest
from mistakes import ALL, ELSEWHERE, FORMS, RANGES, TOGETHER, assert_mended_by_the_user
from omegaconf import OmegaConf

from dltrain.config import compose as composing
from dltrain.config.check import check, target_nodes
from dltrain.errors import UserError

SOME = (
    ELSEWHERE | TOGETHER | FORMS | dict(list(RANGES.items())[::6])
)  # all of them: the slow test below


@pytest.mark.parametrize("line", SOME, ids=lambda line: line[:70])
def test_a_mistake_is_named_before_torch_is_loaded(line, without_torch, tmp_path):
    outcome = without_torch(*shlex.split(line))
    assert_mended_by_the_user(outcome, SOME[line].split("|"))
    assert outcome.err.replace("\n", "").isprintable()
    assert not outcome.torch
    assert not any(tmp_path.iterdir()), "something was left behind"


# Of each of our parts: whatever a number is written in place of, -1e30 is in no range
CHOICES = (
    *("dataset=circles", "dataset=synthetic", "dataset=mnist", "model=cnn", "model=resnet"),
    *("optimizer=sgd", "optimizer=rmsprop", "optimizer=adadelta", "scheduler=step"),
    *("scheduler=one_cycle", "augmentation=crop_flip", "callbacks=[ema,early_stopping,profiler]"),
)


@pytest.mark.parametrize("choice", CHOICES)
def test_no_number_of_a_config_may_be_anything(choice):
    config = check(composing.job_config(composing.compose([choice])))
    group = choice.partition("=")[0]
    keys = [
        f"{where}.{name}"
        for where, node in target_nodes(config[group], group)
        for name, value in node.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    assert keys
    for key in keys:
        for value in (float("nan"), -1e30, "abc", [1], ""):
            changed = OmegaConf.create(config)
            OmegaConf.update(changed, key, value)
            with pytest.raises(UserError, match=key):
                check(changed)


def test_an_empty_list_of_callbacks_and_loggers_is_none_of_them():
    cfg = composing.compose(["callbacks=[]", "loggers=[]"])
    config = check(composing.job_config(cfg))
    assert config["callbacks"] == {}
    assert config["loggers"] == {}


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device"])
def test_what_is_no_file_is_no_config_and_is_not_waited_for(kind, without_torch, tmp_path):
    file = tmp_path / "mine" / "model" / "mine.yaml"
    file.parent.mkdir(parents=True)
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("mine.yaml" if kind == "loop" else "/dev/zero")
    outcome = without_torch("train", "--config-dir", "mine", "model=mine")
    assert_mended_by_the_user(outcome, ["`model=mine`", "mlp"])
    assert without_torch("info", "--config-dir", "mine", "model").code == 0


PRIMARY = {
    "trainer: {max_step: 3}": "mine.yaml|`trainer.max_step`|`trainer.max_steps`",
    "trainer: 3": "mine.yaml|a group of keys",
    "nope: 3": "mine.yaml|`nope`",
    "null: 3": "config",
    "seed: abc": "mine.yaml|seed is 'abc'",
}


@pytest.mark.parametrize("text", PRIMARY)
def test_a_primary_config_of_the_users_own(text, without_torch, tmp_path):
    tmp_path.joinpath("mine.yaml").write_text(f"defaults: [train, _self_]\n{text}\n")
    outcome = without_torch("train", "--config-dir", ".", "--config-name", "mine")
    assert_mended_by_the_user(outcome, PRIMARY[text].split("|"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_mistake_costs_a_fresh_process_little(tmp_path):
    slowest = []
    for line in ALL:
        started = time.perf_counter()
        outcome = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "dltrain", *shlex.split(line)],
            cwd=tmp_path,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        slowest.append((time.perf_counter() - started, line[:70]))
        said = outcome.stderr.decode(errors="replace").splitlines()
        imported = [each for each in said if each.startswith("import time:")]
        message = [each for each in said if not each.startswith("import time:")]
        assert outcome.returncode == 2, (line, message)
        assert 1 <= len(message) <= 6, line
        assert all(name in "\n".join(message) for name in ALL[line].split("|")), (line, message)
        assert message[0].startswith("dltrain: error: "), line
        assert all(each.isprintable() for each in message), line
        assert outcome.stdout == b"", line
        assert not any(each.split("|")[-1].strip() == "torch" for each in imported), line
        assert not any(tmp_path.iterdir()), line
    print(f"\n{len(ALL)} mistakes; the slowest:", *sorted(slowest, reverse=True)[:5], sep="\n  ")
