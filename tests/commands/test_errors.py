"""Mistakes: one to six lines that name the key, the rule and the cure, and nothing left behind."""

import os
import shlex

import pytest
import torch

# command line after `dltrain`: what its message must name, parted by |
MISTAKES = {
    # commands and flags
    "trian": "`trian`|`train`",
    "optimizer.lr=0.1": "dltrain train optimizer.lr=0.1",
    "evaluation x": "`evaluation`",
    "train --frobnicate": "--frobnicate|--help",
    "train -x": "-x",
    "train --cfg jbo": "jbo|job",
    "train --cfg": "--cfg",
    "train --config-dir": "--config-dir",
    "train --config-dir nowhere": "nowhere",
    "train --config-name nope": "`nope`|--config-name",
    "train --config-name=../../etc/passwd": "../../etc/passwd",
    "train --config-name model/mlp": "loader is missing",
    "train --config-path /tmp": "--config-path|--config-dir",
    "train --experimental-rerun x": "--experimental-rerun|resume",
    "train --allow-target": "--allow-target",
    "info modle": "`modle`|`model`",
    "info --config-dir": "--config-dir",
    "-sc install=csh": "bash, zsh, fish",
    "resume nope": "nope",
    "resume /": "config.yaml",
    "resume latest": "dltrain train",
    "resume --foo": "--foo",
    # unknown and misspelt keys
    "train optimzer.lr=1": "`optimzer.lr`|`optimizer.lr`|--cfg job",
    "train optimizer.lrr=1": "`optimizer.lr`",
    "train lr=0.1": "`optimizer.lr`",
    "train learning_rate=3": "`optimizer.lr`",
    "train modle=cnn": "`model`",
    "train foo=bar": "`foo`",
    "train +foo=bar": "`foo`|seed",
    "train +trainer.max_epoch=1": "trainer.max_epoch|`max_epochs`",
    "train loader.foo=1": "`loader.foo`",
    "train +optimizer.foo=1": "optimizer.foo|torch.optim.AdamW",
    "train ++model.droput=0.1": "model.droput|`model.dropout`",
    "train hydra.foo=1": "hydra.foo",
    "train model@foo=mlp": "model@foo",
    "train ~foo": "`foo`",
    "train ~callbacks.progres": "`callbacks.progress`",
    "train ~trainer.max_epochs": "trainer.max_epochs|null",
    "train ~model": "model is missing|model=",
    "train ~name": "name is missing",
    "train +optimizer.lr=1": "optimizer.lr|without the +",
    # groups
    "train model=resnet8": "`model=resnet8`|`resnet18`|dltrain info model",
    "train dataset=minst": "`mnist`",
    "train optimizer=lion": "choices of optimizer|sgd",
    "train model=": "choices of model",
    "train model=null": "`model=null`|one of|mlp",
    "train trainer=5": "`trainer=5`|one of default",
    "train dataset=???": "dataset is missing|digits",
    "train callbacks=[default,nope]": "callbacks=nope|choices of callbacks",
    "train debug=nope": "overfit",
    "train hydra/launcher=joblib": "hydra/launcher|basic",
    # the form of an override
    "train =3": "`=3`|no key",
    "train ''": "key=value",
    "train ' '": "key=value",
    "train optimizer.lr": "`optimizer.lr`|key=value",
    "train 'optimizer.lr = 1'": "key=value",
    "train optimizer..lr=1": "optimizer..lr|key=value",
    "train .lr=1": "key=value",
    "train 'name=\"open'": "key=value",
    "train optimizer.lr=0.1,": "optimizer.lr=0.1,",
    "train optimizer.lr=foo(3)": "foo",
    "train seed=1 seed=2": "`seed`|twice",
    "train model=mlp model=cnn": "`model`|twice",
    "train optimizer.lr=1 ++optimizer.lr=2": "`optimizer.lr`|twice",
    "train optimizer.lr=1,2": "-m|key=[a,b]",
    "train optimizer.lr=range(1,3)": "-m",
    "train /model=cnn": "/model=cnn",
    # types
    "train optimizer.lr=": "optimizer.lr is empty|a number",
    "train optimizer.lr=a": "optimizer.lr is 'a'|a number",
    "train optimizer.lr=true": "optimizer.lr is true|a number",
    "train optimizer.lr=null": "optimizer.lr is null|float",
    "train optimizer.lr=[1,2]": "optimizer.lr is [1, 2]",
    "train optimizer.betas=0.9": "optimizer.betas is 0.9",
    "train optimizer.betas=[0.9]": "optimizer.betas is [0.9]",
    "train model.hidden_sizes=5": "model.hidden_sizes is 5",
    "train seed=abc": "seed is 'abc'|a whole number",
    "train seed=1.5": "seed|a whole number",
    "train seed=null": "seed is null",
    "train name=[a]": "name is ['a']",
    "train trainer.max_epochs=ten": "trainer.max_epochs|a whole number",
    "train trainer.compile=maybe": "trainer.compile is 'maybe'|true or false",
    "train trainer.compile=2": "trainer.compile is 2|true or false",
    "train trainer.compile=null": "trainer.compile is null|true or false",
    "train loader.drop_last=3": "loader.drop_last is 3|true or false",
    "train loader.batch_size=[1]": "loader.batch_size|a whole number",
    "train hydra.job.num=x": "hydra.job.num",
    # ranges
    "train optimizer.lr=0": "optimizer.lr is 0|> 0",
    "train optimizer.lr=-1": "optimizer.lr is -1|> 0",
    "train optimizer.lr=nan": "optimizer.lr is nan",
    "train optimizer.lr=inf": "optimizer.lr is inf",
    "train optimizer.lr=1e400": "optimizer.lr is inf",
    "train optimizer.betas=[0.9,1.5]": "optimizer.betas|< 1",
    "train optimizer.eps=-1": "optimizer.eps is -1|>= 0",
    "train optimizer.weight_decay=nan": "optimizer.weight_decay is nan",
    "train model.dropout=1.5": "model.dropout is 1.5|< 1",
    "train seed=-1": "seed is -1|>= 0",
    "train seed=99999999999999999999999": "seed",
    "train trainer.max_steps=0": "trainer.max_steps is 0|>= 1",
    "train trainer.max_steps=1e30": "trainer.max_steps",
    "train trainer.max_grad_norm=0": "trainer.max_grad_norm|> 0",
    "train trainer.max_grad_norm=inf": "trainer.max_grad_norm is inf",
    "train trainer.threads=0": "trainer.threads is 0|auto",
    "train trainer.threads=null": "trainer.threads is null|auto",
    "train trainer.accumulate=0": "trainer.accumulate is 0|>= 1",
    "train loader.batch_size=-5": "loader.batch_size is -5|>= 1",
    "train loader.num_workers=-1": "loader.num_workers is -1",
    "train checkpoint.keep=1": "checkpoint.keep is 1|>= 2",
    "train dataset.split_seed=-1": "dataset.split_seed is -1",
    # enums and durations
    "train trainer.device=gpu": "trainer.device is 'gpu'|cuda",
    "train trainer.precision=16": "trainer.precision is '16'|bf16",
    "train trainer.on_nonfinite=ignore": "stop, skip",
    "train checkpoint.mode=maximum": "checkpoint.mode|max, min",
    "train checkpoint.monitor=accuracy": "checkpoint.monitor|accuracy/val",
    "train resume=yes": "resume is 'yes'|none, auto",
    "train trainer.max_time=5": "trainer.max_time is '5'|no unit|90 min",
    "train trainer.max_time=0s": "trainer.max_time is '0s'",
    "train trainer.log_every=50": "trainer.log_every is '50'|500 steps",
    "train 'trainer.log_every=50 stps'": "stps|500 steps",
    "train trainer.budget=5%": "trainer.budget|2 epochs",
    "train scheduler.warmup=-5%": "scheduler.warmup is '-5%'",
    "train checkpoint.every=nan": "checkpoint.every is 'nan'",
    # names and directories
    "train name=": "name is empty|outputs/",
    "train name=../x": "name is '../x'|outputs/",
    "train name=/abs": "name is '/abs'",
    "train hydra.run.dir=": "hydra.run.dir",
    "train hydra.run.dir=/proc/x/y": "/proc/x",
    # missing values and interpolations
    "train seed=???": "seed is missing|seed=",
    "train model.num_classes=???": "model.num_classes is missing",
    "train dataset.num_classes=???": "dataset.num_classes",
    "train 'name=${nope}'": "name|nope",
    "train 'name=${name}'": "name|Recursive",
    "train 'optimizer.lr=${optimizer.eps}' 'optimizer.eps=${optimizer.lr}'": "optimizer.lr",
    "train 'name=${oc.env:NO_SUCH_VARIABLE}'": "name|NO_SUCH_VARIABLE",
    "train 'name=${foo:1}'": "name|foo",
    "train 'name=${'": "name=${",
    "train 'hydra.run.dir=${nope}'": "hydra.run.dir|nope",
    # targets
    "train model._target_=nope.Nope": "model._target_|nope",
    "train model._target_=nope": "model._target_|`nope`|torch.optim.AdamW",
    "train model._target_=dltrain.models.mlp.MPL": "`MPL`",
    "train model._target_=dltrain.models.mlp": "is a module",
    "train optimizer._target_=torch.optim.Adamm": "`torch.optim.Adam`",
    "train model._target_=os.system": "model._target_|`os.system`|--allow-target os",
    "train model._target_=torch.load": "`torch.load`|not allowed",
    "train model._target_=dltrain.cli.run": "not allowed",
    "train '+model.sub={_target_:os.system}'": "model.sub._target_|not allowed",
    "train model._target_=torch.nn.Linear": "model.input_shape|in_features",
    "train model._target_=null": "model needs a `_target_`|dltrain info model",
    "train +callbacks.x.y=1": "callbacks.x|`_target_`",
    # data
    "train dataset=mnist": "train-images-idx3-ubyte|dataset.download=true|dataset.root",
    "train dataset=cifar10 dataset.root=there": "cifar-10-batches-py|there",
    "train dataset=svhn": "train_32x32.mat",
    "train dataset.num_classes=3": "dataset.num_classes",
    "train dataset.image_shape=[1,9,9]": "dataset.image_shape",
    "train dataset.std=[0]": "dataset.std",
    "train init_from=nowhere.safetensors": "init_from|nowhere.safetensors",
    # sweeps
    "train -m optimizer.lr=-1,1": "optimizer.lr is -1",
    "train -m optimizer.lr=1,-1": "optimizer.lr is -1",
    "train -m model=mlp,nope": "`model=nope`",
    "train model=mlp,linear -m optimzer.lr=1": "`optimizer.lr`",
    "train -m seed=1 seed=1,2": "`seed=1` and `seed=1,2`",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_costs_a_second(line, without_torch, tmp_path):
    outcome = without_torch(*shlex.split(line))
    assert_mended_by_the_user(outcome, MISTAKES[line].split("|"))
    assert not outcome.torch, "torch was loaded before the mistake was found"
    assert not any(tmp_path.iterdir()), "something was left behind"


def assert_mended_by_the_user(outcome, named):
    assert outcome.code == 2, outcome
    lines = outcome.err.splitlines()
    assert 1 <= len(lines) <= 6
    assert lines[0].startswith("dltrain: error: ")
    assert all(line.startswith("  ") for line in lines[1:])
    assert "Traceback" not in outcome.err
    for name in named:
        assert name in outcome.err


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
    "trainer.precision=fp16 trainer.device=cpu": "trainer.precision is fp16|bf16",
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
