"""`dltrain evaluate`: the numbers of training, to the bit, and what can be read off them."""

import json
import os
import re
import shutil
import sys

import pytest
import torch
from hostile import CONFIGS, PLACES, WEIGHTS
from photos import make_folder

import dltrain as package
from dltrain.build_data import read_data

IMAGES = (
    "dataset=image_folder", "dataset.root=photos", "dataset.size=12", "model=cnn",
    "model.widths=[4,8]", "loader.batch_size=7", "loader.eval_batch_size=4", "trainer.max_steps=8",
    "trainer.threads=1", "callbacks=none", "loggers=none", "hydra.run.dir=run",
    "trainer.eval_every=4steps", "scheduler=constant",
)  # fmt: skip
COUNTS = ("accuracy", "accuracy_top5", "precision_macro", "recall_macro", "f1_macro")


@pytest.fixture
def run_dir(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """They take longer than all else; `test_evaluate_files.py` is about them."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
        monkeypatch.setitem(sys.modules, name, None)


def evaluated(run_dir, name="test_final"):
    return json.loads((run_dir / "evaluation" / name / "metrics.json").read_text())


def summary(run_dir):
    return json.loads((run_dir / "summary.json").read_text())


def assert_same_as_training(run_dir, outcome):
    assert outcome.code == 0, outcome.err
    found, expected = evaluated(run_dir)["metrics"], summary(run_dir)["test"]
    assert {name: found[name] for name in expected} == expected  # to the last bit
    assert "the same as at the end of training" in outcome.out


def test_the_numbers_are_those_of_training_to_the_last_digit(run_dir, dltrain):
    assert_same_as_training(run_dir, dltrain("evaluate", "run"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("callbacks=[ema]", "callbacks.ema.warmup=true"),
        ("model=cnn", "model.widths=[4,8]", "model.dropout=0.3", "task.views=flip_shift"),
        ("checkpoint.final=last", "loader.placement=stream", "loader.eval_batch_size=7"),
        ("loader.limit_batches=3", "loader.eval_batch_size=11"),
    ],
    ids=["ema", "views", "streamed", "limited"],
)
def test_so_they_are_of_other_kinds_of_runs(arguments, dltrain, tmp_path):
    common = ("trainer.max_epochs=2", "trainer.threads=1", "hydra.run.dir=run")
    assert dltrain("train", *common, *arguments).code == 0
    assert_same_as_training(tmp_path / "run", dltrain("evaluate", "run"))


def test_a_limit_counts_batches_of_the_run_s_own_size(dltrain, tmp_path):
    argv = ("trainer.max_epochs=1", "callbacks=none", "hydra.run.dir=run")
    limit = ("loader.limit_batches=3", "loader.eval_batch_size=11")
    assert dltrain("train", *argv, *limit).code == 0
    assert dltrain("evaluate", "run", "loader.eval_batch_size=5").code == 0
    assert evaluated(tmp_path / "run")["num_samples"] == 33


def test_so_they_are_of_image_files_and_after_a_move(dltrain, tmp_path):
    make_folder(tmp_path / "photos")
    shutil.copytree(tmp_path / "photos" / "val", tmp_path / "photos" / "test")
    assert dltrain("train", *IMAGES, "augmentation=imagenet").code == 0
    assert_same_as_training(tmp_path / "run", dltrain("evaluate", "run"))
    (tmp_path / "run").rename(tmp_path / "moved")
    (tmp_path / "photos").rename(tmp_path / "pictures")
    outcome = dltrain("evaluate", "moved", "dataset.root=pictures")
    assert outcome.code == 0, outcome.err
    moved = evaluated(tmp_path / "moved", "test_final_2")["metrics"]
    assert moved == evaluated(tmp_path / "moved")["metrics"]


def test_the_threads_of_the_run_are_taken_from_its_record(run_dir, dltrain):
    config = (run_dir / "config.yaml").read_text().replace("threads: 1", "threads: auto")
    (run_dir / "config.yaml").write_text(config)
    torch.set_num_threads(2)
    assert dltrain("evaluate", "run").code == 0
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("split", ["test", "train"])
def test_other_batches_change_nothing_but_roundings(split, run_dir, dltrain):
    found = []
    for size in (256, 1, 7, 1000):
        outcome = dltrain("evaluate", "run", f"split={split}", f"loader.eval_batch_size={size}")
        assert outcome.code == 0, outcome.err
        found.append(evaluated(run_dir, f"{split}_final"))
    assert {each["num_samples"] for each in found} == {360 if split == "test" else 1257}
    first = found[0]["metrics"]
    for other in found[1:]:
        assert all(other["metrics"][name] == first[name] for name in COUNTS)
        assert abs(other["metrics"]["loss"] - first["loss"]) < 1e-6
        assert abs(other["metrics"]["ece"] - first["ece"]) < 1e-6


def test_the_training_set_is_seen_as_it_is(dltrain, tmp_path):
    """In order and without what training does to it."""
    argv = ("trainer.max_epochs=1", "augmentation=crop", "callbacks=none", "hydra.run.dir=run")
    assert dltrain("train", *argv).code == 0
    assert dltrain("evaluate", "run", "split=train").code == 0
    run = package.load_run(tmp_path / "run", device="cpu")
    arrays = read_data(run.config).splits["train"]
    right = (run.predict(arrays.inputs).argmax(1).numpy() == arrays.targets).mean()
    found = evaluated(tmp_path / "run", "train_final")["metrics"]["accuracy"]
    assert found == pytest.approx(right, abs=1e-12)


def test_evaluations_do_not_take_each_other_s_place(run_dir, dltrain):
    for arguments in ((), (), ("split=val",), ("checkpoint=last",), ("task.views=flip",)):
        assert dltrain("evaluate", "run", *arguments).code == 0
    assert sorted(path.name for path in (run_dir / "evaluation").iterdir()) == [
        "test_final", "test_final_views-flip", "test_step-00000040", "val_final",
    ]  # fmt: skip
    assert evaluated(run_dir)["settings"]["overrides"] == []
    views = evaluated(run_dir, "test_final_views-flip")
    assert views["settings"]["overrides"] == ["task.views=flip"]


def test_what_counts_other_samples_does_not_take_the_place_of_what_counts_all(run_dir, dltrain):
    for arguments in ((), ("loader.limit_batches=1",), ("loader.eval_batch_size=9",)):
        assert dltrain("evaluate", "run", *arguments).code == 0
    assert evaluated(run_dir)["num_samples"] == 360
    assert evaluated(run_dir, "test_final_2")["num_samples"] == 64


def test_a_checkpoint_is_one_however_it_is_named(run_dir, dltrain, tmp_path):
    for name in ("40", "last", "run/checkpoints/step-00000040"):
        assert dltrain("evaluate", "run", f"checkpoint={name}").code == 0
    shutil.copytree(run_dir / "checkpoints" / "step-00000040", tmp_path / "step-00000040")
    shutil.copy(run_dir / "model.safetensors", tmp_path)
    for name in ("./step-00000040", f"{tmp_path}/step-00000040", "model.safetensors"):
        assert dltrain("evaluate", "run", f"checkpoint={name}").code == 0
    assert sorted(path.name for path in (run_dir / "evaluation").iterdir()) == [
        "test_file-model", "test_step-00000040", "test_step-00000040_2", "test_step-00000040_3",
    ]  # fmt: skip


def test_the_screen_says_which_weights_and_views(run_dir, dltrain):
    step = summary(run_dir)["best"]["step"]
    out = dltrain("evaluate", "run", "task.views=flip_shift").out
    assert f"weights    final (step {step}, best)\n" in out
    assert "views      flip_shift\n" in out
    assert "views" not in dltrain("evaluate", "run").out
    assert evaluated(run_dir)["step"] == step


def test_a_dataset_smaller_than_a_batch_of_training_is_evaluated(dltrain, tmp_path):
    make_folder(tmp_path / "photos")
    make_folder(tmp_path / "small", num_train=3, num_val=3)
    assert dltrain("train", *IMAGES).code == 0
    outcome = dltrain("evaluate", "run", "split=val", "dataset.root=small")
    assert outcome.code == 0, outcome.err
    (tmp_path / "photos").rename(tmp_path / "moved")
    outcome = dltrain("evaluate", "run", "split=val")
    assert outcome.code == 2
    assert "if the data has moved: dataset.root=FOLDER" in outcome.err


def test_the_files_are_there_before_the_screen(run_dir, start):
    """Whoever reads the screen may go at any time: `| head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    process = start("evaluate", "run", stdout=writing)
    os.close(writing)
    process.communicate(timeout=120)
    assert evaluated(run_dir)["num_samples"] == 360


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_screen_holds_it(width, run_dir, dltrain, monkeypatch):
    record = json.loads((run_dir / "run.json").read_text())
    names = ["a class with a name that goes on and on and on and on and on", *"123456789"]
    (run_dir / "run.json").write_text(json.dumps(record | {"classes": names}))
    monkeypatch.setenv("COLUMNS", str(width))
    out = dltrain("evaluate", "run").out
    table = out[out.index("class ") :].split("\n\n")[0].splitlines()
    assert len(table) == 11
    assert max(map(len, table)) <= max(25, min(width, 80))


def test_of_many_classes_the_worst_are_shown(dltrain, tmp_path):
    dataset = ("dataset=synthetic", "dataset.num_classes=30", "dataset.num_samples=300")
    argv = ("trainer.max_epochs=1", "callbacks=none", "hydra.run.dir=run", "trainer.threads=1")
    assert dltrain("train", *dataset, "dataset.num_test=120", *argv).code == 0
    outcome = dltrain("evaluate", "run")
    assert "and 10 classes with a better F1: per_class.csv" in outcome.out
    shown = [float(rate.rstrip("%")) for rate in re.findall(r"^class .* (\S+%|-) +4$", outcome.out)
             if rate != "-"]  # fmt: skip
    assert shown == sorted(shown)


# ---------------------------------------------------------------------- which weights, which data


def test_a_run_that_was_killed_is_evaluated_at_its_newest_checkpoint(run_dir, dltrain):
    (run_dir / "summary.json").write_text(json.dumps(summary(run_dir) | {"status": "running"}))
    outcome = dltrain("evaluate", "run")
    assert outcome.code == 0, outcome.err
    assert "the run has not ended: this is its newest good checkpoint, step 40" in outcome.out
    assert (run_dir / "evaluation" / "test_step-00000040").is_dir()


@pytest.mark.parametrize("argument", ["checkpoint=7", "checkpoint=x.safetensors"])
def test_weights_that_are_not_there_are_exit_code_3(argument, run_dir, dltrain):
    outcome = dltrain("evaluate", "run", argument)
    assert outcome.code == 3
    assert outcome.err.startswith("dltrain: error: ")
    assert not (run_dir / "evaluation").exists()


def test_a_pipe_is_not_waited_for(run_dir, dltrain):
    os.mkfifo(run_dir / "x.safetensors")
    outcome = dltrain("evaluate", "run", "checkpoint=run/x.safetensors")
    assert outcome.code == 2
    (run_dir / "x.safetensors").unlink()
    os.mkfifo(run_dir.parent / "x.safetensors")
    outcome = dltrain("evaluate", "run", "checkpoint=x.safetensors")
    assert outcome.code == 3
    assert "x.safetensors cannot be read: it is not a file" in outcome.err


def test_a_damaged_checkpoint_is_exit_code_3(run_dir, dltrain):
    weights = run_dir / "checkpoints" / "step-00000040" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    for wanted in ("last", "best", "40"):
        assert dltrain("evaluate", "run", f"checkpoint={wanted}").code == 3
    weights = run_dir / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    outcome = dltrain("evaluate", "run")
    assert outcome.code == 3
    assert "checkpoint=best" in outcome.err


def test_another_dataset_has_the_classes_of_the_run(dltrain, tmp_path):
    for name, count in (("photos", 3), ("others", 3), ("more", 4)):
        make_folder(tmp_path / name, num_val=12, num_classes=count)
    (tmp_path / "others" / "train" / "class 2").rename(tmp_path / "others" / "train" / "class x")
    (tmp_path / "others" / "val" / "class 2").rename(tmp_path / "others" / "val" / "class x")
    assert dltrain("train", *IMAGES).code == 0
    same = dltrain("evaluate", "run", "dataset=image_folder", "dataset.root=photos", "split=val")
    assert same.code == 0, same.err  # with the size that the run has learned on
    of_run = dltrain("evaluate", "run", "split=val")
    assert of_run.code == 0
    names = sorted(path.name for path in (tmp_path / "run" / "evaluation").iterdir())
    first, second = (evaluated(tmp_path / "run", name)["metrics"] for name in names)
    assert first == second
    for root, reason in (("others", "class 2 is 'class x' in the dataset"), ("more", "classes")):
        outcome = dltrain("evaluate", "run", "split=val", f"dataset.root={root}")
        assert outcome.code == 2, outcome
        assert reason in outcome.err
    outcome = dltrain("evaluate", "run")
    assert outcome.code == 2
    assert "of which the dataset has no samples; it has train, val: type split=val" in outcome.err


MISTAKES = {
    "split=tset": "it must be one of test, val, train",
    "ema=maybe": "it must be auto, true or false",
    "optimizer.lr=1": "`optimizer.lr` cannot be changed here",
    "chekpoint=last": "did you mean `checkpoint`?",
    "checkpoint=": "checkpoint is empty; it must be best, last, a step",
    "--last": "there is no flag --last",
    "last": "is no key=value",
    "loader.eval_batch_size=0": "loader.eval_batch_size is 0; it must be >= 1",
    "loader.size=1": "there is no config key `loader.size`",
    "dataset.root=elsewhere": "no config key `dataset.root`",
    "task.views=flop": "it must be one of none, flip, flip_shift",
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_a_mistake_costs_a_second(argument, run_dir, without_torch):
    outcome = without_torch("evaluate", "run", argument)
    assert outcome.code == 2
    assert MISTAKES[argument] in outcome.err
    assert not outcome.torch
    assert not (run_dir / "evaluation").exists()


def test_help_and_runs_that_are_none(without_torch, tmp_path):
    assert "usage: dltrain evaluate RUN" in without_torch("evaluate", "--help").out
    for argv, reason in (((), "usage"), (("nowhere",), "no directory `nowhere`")):
        outcome = without_torch("evaluate", *argv)
        assert reason in outcome.out + outcome.err


def test_what_a_stranger_s_run_holds_writes_nowhere_else(run_dir, without_torch, tmp_path):
    (tmp_path / "home").mkdir()
    (run_dir / "evaluation").symlink_to(tmp_path / "home")
    outcome = without_torch("evaluate", "run")
    assert outcome.code == 2
    assert "is a link" in outcome.err
    (run_dir / "evaluation").unlink()
    (run_dir / "evaluation").write_text("a file")
    assert without_torch("evaluate", "run").code == 2


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (CONFIGS, "os.system"), (CONFIGS, "bomb"), (CONFIGS, "the environment"),
        (CONFIGS, "a hundred thousand dashes"), (PLACES, "a pipe as model.safetensors"),
        (PLACES, "/dev/zero as model.safetensors"), (PLACES, "a link as checkpoints"),
    ],
)  # fmt: skip
def test_a_hostile_run_is_refused_before_torch_is_loaded(table, name, run_dir, without_torch):
    (run_dir.parent / "home").mkdir()
    table[name](run_dir)
    outcome = without_torch("evaluate", "run")
    assert outcome.code == 2, outcome
    assert not outcome.torch
    assert len(outcome.err.splitlines()) <= 6


@pytest.mark.parametrize("name", WEIGHTS)
def test_hostile_weights_are_exit_code_3(name, run_dir, dltrain, tmp_path):
    (run_dir / "model.safetensors").write_bytes(WEIGHTS[name])
    outcome = dltrain("evaluate", "run")
    assert outcome.code == 3, outcome
    assert outcome.err.startswith("dltrain: error: ")
    assert len(outcome.err.splitlines()) <= 6
    assert not (tmp_path / "canary").exists()


def test_a_link_among_evaluations_is_not_followed(run_dir, dltrain, tmp_path):
    (tmp_path / "home").mkdir()
    (run_dir / "evaluation").mkdir()
    (run_dir / "evaluation" / "test_final").symlink_to(tmp_path / "home")
    same = {"settings": {"overrides": [], "checkpoint": None}}
    (tmp_path / "home" / "metrics.json").write_text(json.dumps(same))
    assert dltrain("evaluate", "run").code == 0
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["metrics.json"]
    assert (run_dir / "evaluation" / "test_final_2" / "metrics.json").is_file()
