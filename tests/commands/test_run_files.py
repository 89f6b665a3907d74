"""What a run leaves: the files of the contract and their fields, and nothing after a mistake."""

import fcntl
import json
import os
import shutil
import threading

import pytest
import yaml
from safetensors import safe_open

from dltrain import runs
from dltrain.claim import Claim
from dltrain.errors import UserError

FILES = {
    "config.yaml", "run.json", "train.log", "metrics.jsonl", "summary.json", "model.safetensors",
    ".hydra", "checkpoints",
}  # fmt: skip


def rows(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_the_files_of_the_contract(finished_run):
    names = {path.name for path in finished_run.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names - events == FILES
    hydra = {path.name for path in (finished_run / ".hydra").iterdir()}
    assert hydra == {"config.yaml", "overrides.yaml", "hydra.yaml"}
    kept = sorted(path.name for path in (finished_run / "checkpoints").iterdir())
    assert kept[-1] == "step-00000040"
    assert len(kept) in (2, 3)
    inside = {"model.safetensors", "state.safetensors", "state.json", "MANIFEST.json"}
    for name in kept:
        assert {path.name for path in (finished_run / "checkpoints" / name).iterdir()} == inside


def test_where_it_is(finished_run):
    assert finished_run.parent.name == "digits_mlp"
    assert finished_run.parents[1].name == "outputs"
    date, time, label = finished_run.name.split("_", 2)
    assert (len(date), len(time)) == (10, 8)
    assert label == "max_epochs=2_threads=1_hidden_sizes=16"


def test_metrics(finished_run):
    found = rows(finished_run)
    keys = [(row["step"], row["split"]) for row in found]
    assert keys == [(20, "val"), (40, "train"), (40, "val"), (40, "test")]
    for row in found:
        assert list(row)[:4] == ["step", "epoch", "split", "time"]
        assert row["epoch"] == row["step"] // 20
        assert 0 <= row["accuracy"] <= 1
        assert row["loss"] > 0
    assert {"lr", "samples_per_sec", "data_share"} < set(found[1])
    assert 0 < found[1]["data_share"] < 1


def test_summary(finished_run):
    summary = json.loads((finished_run / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert (summary["step"], summary["epoch"]) == (40, 2)
    val = {row["step"]: row["accuracy"] for row in rows(finished_run) if row["split"] == "val"}
    best = summary["best"]
    assert best["monitor"] == "accuracy/val"
    assert best["value"] == max(val.values()) == val[best["step"]]
    test = rows(finished_run)[-1]
    assert summary["test"] == {name: test[name] for name in summary["test"]}
    assert {"loss", "accuracy"} <= set(summary["test"])
    assert summary["last"]["accuracy/val"] == val[40]
    assert summary["num_parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    assert summary["wall_time_sec"] > 0
    assert summary["samples_per_sec"] > 0
    assert 0 < summary["data_share"] < 1


def test_record(finished_run):
    record = json.loads((finished_run / "run.json").read_text())
    assert record["command"].startswith("dltrain train trainer.max_epochs=2")
    assert (record["seed"], record["device"], record["threads"]) == (0, "cpu", 1)
    assert {"start", "git", "versions", "host", "choices", "config_digest"} <= set(record)
    assert {"python", "torch", "dltrain", "numpy"} <= set(record["versions"])
    assert record["choices"]["model"] == "mlp"


def test_config_is_plain_resolved_data(finished_run):
    text = (finished_run / "config.yaml").read_text()
    assert "${" not in text
    assert "???" not in text
    assert "hydra" not in text
    config = yaml.safe_load(text)
    assert config["model"]["num_classes"] == 10
    assert config["name"] == "digits_mlp"
    assert runs.read_config(finished_run) == config


def test_no_file_holds_a_path_of_this_machine(finished_run):
    root = str(finished_run.parents[2]).encode()
    for path in finished_run.rglob("*"):
        if path.is_file() and path.parent.name != ".hydra":  # Hydra notes where it was started
            assert root not in path.read_bytes(), path.name


def test_the_weights_are_those_of_the_best_checkpoint(finished_run):
    best = json.loads((finished_run / "summary.json").read_text())["best"]["step"]
    kept = finished_run / "checkpoints" / f"step-{best:08d}" / "model.safetensors"
    assert (finished_run / "model.safetensors").read_bytes() == kept.read_bytes()
    with safe_open(finished_run / "model.safetensors", "pt") as file:
        assert sum(file.get_tensor(name).numel() for name in file.keys()) == 1210  # noqa: SIM118


def test_final_last(dltrain, tmp_path):
    argv = ("train", "checkpoint.final=last", "trainer.max_epochs=3", "model.hidden_sizes=[8]")
    assert dltrain(*argv, "optimizer.lr=0.5", "hydra.run.dir=r").code == 0
    last = tmp_path / "r" / "checkpoints" / "step-00000060" / "model.safetensors"
    assert (tmp_path / "r" / "model.safetensors").read_bytes() == last.read_bytes()


def test_the_log_holds_what_the_console_said(dltrain, tmp_path):
    outcome = dltrain("train", "trainer.max_epochs=1", "hydra.run.dir=r", "~callbacks.progress")
    log = [line[24:] for line in (tmp_path / "r" / "train.log").read_text().splitlines()]
    said = [line for line in outcome.out.splitlines() if line.strip()]
    assert [line for line in said if line not in log] == []


def test_without_loggers_and_callbacks_all_else_is_there(dltrain, tmp_path):
    argv = ("train", "loggers=none", "callbacks=none", "trainer.max_epochs=1", "hydra.run.dir=r")
    assert dltrain(*argv).code == 0
    assert {path.name for path in (tmp_path / "r").iterdir()} == FILES


def test_names_that_are_taken_get_a_suffix(dltrain, tmp_path):
    for _ in range(3):
        outcome = dltrain("train", "trainer.max_steps=1", "name=a/b", "model=linear")
        assert outcome.code == 0, outcome.err
    assert len(list((tmp_path / "outputs" / "a" / "b").iterdir())) == 3
    (tmp_path / "x").mkdir()
    with Claim(tmp_path / "x", fresh=True) as first:
        assert [path.name for path in tmp_path.glob("x*")] == ["x"]
        assert first.take() == tmp_path / "x_2"
        with Claim(tmp_path / "x", fresh=True) as second:
            assert second.take() == tmp_path / "x_3"
    assert [path.name for path in tmp_path.glob("x*")] == ["x"]  # they were left empty


def test_of_two_that_want_a_new_directory_one_is_refused(tmp_path):
    with Claim(tmp_path / "x") as first, Claim(tmp_path / "x") as second:
        first.take()
        with pytest.raises(UserError, match="in use by another"):
            second.take()
        (tmp_path / "x" / "config.yaml").touch()
        first.release()
        with pytest.raises(UserError, match="holds a run already"):
            second.take()


def test_who_only_looks_is_in_nobodys_way(tmp_path, monkeypatch):
    """Whether a run is held is asked by a shared lock, which is given back after microseconds."""
    monkeypatch.setattr("dltrain.claim.MAX_WAIT_SEC", 60.0)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    gone = threading.Timer(0.02, os.close, [descriptor])
    gone.start()
    with Claim(tmp_path) as claim:
        assert not claim.is_new
    gone.join()


KILL_AT_TORCH = """
import os, sys

class Kill:
    def find_spec(name, path=None, target=None):
        if name == "torch._C":
            os.kill(os.getpid(), 9)

sys.meta_path.insert(0, Kill)
"""


def test_a_run_that_is_killed_while_it_loads_torch_leaves_nothing(shell, tmp_path):
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "sitecustomize.py").write_text(KILL_AT_TORCH)
    outcome = shell("train", "name=a/b", env={"PYTHONPATH": str(tmp_path / "stub")})
    assert outcome.code == -9
    assert [path.name for path in tmp_path.iterdir()] == ["stub"]


def test_a_directory_that_holds_a_run_is_refused(dltrain, finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "r")
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    outcome = dltrain("train", "hydra.run.dir=r", "trainer.max_epochs=1")
    assert outcome.code == 2
    assert "r holds a run already" in outcome.err
    assert "dltrain resume r" in outcome.err
    assert {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()} == before


def test_a_directory_that_holds_something_else_keeps_it(dltrain, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "notes.txt").write_text("mine")
    assert dltrain("train", "hydra.run.dir=r", "trainer.max_steps=1").code == 0
    assert (tmp_path / "r" / "notes.txt").read_text() == "mine"
    assert dltrain("train", "hydra.run.dir=q/p", "loader.batch_size=5000").code == 2
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize(
    ("settings", "rows_of_train"),
    [("trainer.log_every=7steps", [7, 14, 20]), ("trainer.log_every=50%", [10, 20])],
)
def test_rows_of_train_come_every_log_every(settings, rows_of_train, dltrain, tmp_path):
    assert dltrain("train", "trainer.max_epochs=1", settings, "hydra.run.dir=r").code == 0
    found = [row["step"] for row in rows(tmp_path / "r") if row["split"] == "train"]
    assert found == rows_of_train


@pytest.mark.parametrize(
    ("budget", "steps"),
    [
        (("trainer.max_steps=3",), 3),
        (("trainer.max_steps=30", "trainer.max_epochs=1"), 20),
        (("trainer.budget=3epochs",), 60),
        (("trainer.max_steps=500",), 500),  # not cut by the default number of epochs
    ],
)
def test_the_first_budget_that_is_reached_ends_the_run(budget, steps, dltrain, tmp_path):
    argv = ("train", *budget, "model=linear", "hydra.run.dir=r", "trainer.eval_every=250steps")
    assert dltrain(*argv).code == 0
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["step"] == steps


def test_time_is_a_budget_too(dltrain, tmp_path):
    assert dltrain("train", "trainer.max_time=0.2s", "model=linear", "hydra.run.dir=r").code == 0
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["step"] > 1


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(dltrain, tmp_path):
    argv = ("optimizer=sgd", "optimizer.lr=1e38", "checkpoint.every=1steps", "hydra.run.dir=r")
    outcome = dltrain("train", *argv)
    assert outcome.code == 4
    assert outcome.err.startswith("dltrain: error: ")
    assert "optimizer.lr" in outcome.err
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["status"] == "failed"
    assert not (tmp_path / "r" / "model.safetensors").exists()
