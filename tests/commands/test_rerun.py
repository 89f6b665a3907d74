"""A run is trained again from its record; what is the same is said, and what has changed since."""

import json
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from dltrain.commands.rerun import Before, name_of_rerun

SHORT = ("trainer.max_epochs=2", "trainer.threads=1", "model.hidden_sizes=[16]")
SAME_AGAIN = ("hydra.run.dir=again", "loggers=none")


@pytest.fixture
def run_dir(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "r")


def edit(run_dir, name, **changes):
    data = json.loads((run_dir / name).read_text())
    (run_dir / name).write_text(json.dumps(data | changes))


def test_a_rerun_is_the_same_to_the_last_bit(run_dir, dltrain, tmp_path):
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    outcome = dltrain("rerun", "r", *SAME_AGAIN)
    assert outcome.code == 0, outcome.err
    assert "\nweights: the same\nnothing that is recorded has changed since\n" in outcome.out
    assert "the same: r and again\n" in outcome.out
    again = tmp_path / "again"
    weights = "model.safetensors"
    assert (again / weights).read_bytes() == (run_dir / weights).read_bytes()
    assert json.loads((again / "rerun.json").read_text())["same"] is True
    assert before == {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


def test_what_auto_stood_for_is_taken_from_the_record(run_dir, dltrain, tmp_path):
    text = (run_dir / "config.yaml").read_text()
    assert "threads: 1" in text
    (run_dir / "config.yaml").write_text(text.replace("threads: 1", "threads: auto"))
    outcome = dltrain("rerun", "r", *SAME_AGAIN)
    assert outcome.code == 0, outcome
    config = (tmp_path / "again" / "config.yaml").read_text()
    assert "threads: 1" in config
    assert "device: cpu" in config


def test_what_differs_is_named_with_what_has_changed(run_dir, dltrain, tmp_path):
    rows = (run_dir / "metrics.jsonl").read_text().splitlines()
    last = json.loads(rows[-1])
    rows[-1] = json.dumps(last | {"loss": last["loss"] + 0.5})
    (run_dir / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    record = json.loads((run_dir / "run.json").read_text())
    edit(
        run_dir,
        "run.json",
        versions=record["versions"] | {"torch": "1.0"},
        data=record["data"] | {"test": "0" * 64},
        sources={"dltrain": "1" * 64},
        source_files={"dltrain": record["source_files"]["dltrain"] | {"engine/trainer.py": "0"}},
    )
    outcome = dltrain("rerun", "r", *SAME_AGAIN)
    assert outcome.code == 6, outcome.err
    assert "different: r and again\n" in outcome.out
    (line,) = (line for line in outcome.out.splitlines() if line.startswith("loss/test"))
    assert line.split() == ["loss/test", "1", "0", "5.0e-01,", "first", "at", "step", "40"]
    assert "\nweights: the same\n" in outcome.out
    assert f"version of torch 1.0 -> {record['versions']['torch']}\n" in outcome.out
    assert f"data of test 000000000000 -> {record['data']['test'][:12]}\n" in outcome.out
    (line,) = (line for line in outcome.out.splitlines() if "the files of dltrain" in line)
    assert line.startswith("  code: the files of dltrain 111111111111 -> ")
    assert line.endswith(": engine/trainer.py")


def test_a_resumed_run_is_rerun_from_its_start(dltrain, tmp_path):
    """40 steps in one go give what 40 with an interruption gave."""
    settings = [*SHORT, "loggers=none"]
    assert dltrain("train", *settings, "hydra.run.dir=r").code == 0
    run_dir = tmp_path / "r"
    for path in (run_dir / "summary.json", run_dir / "model.safetensors"):
        path.unlink()  # killed before its end
    for checkpoint in sorted((run_dir / "checkpoints").iterdir())[1:]:
        shutil.rmtree(checkpoint)
    assert dltrain("resume", "r").code == 0
    outcome = dltrain("rerun", "r", "hydra.run.dir=again")
    assert outcome.code == 0, outcome.out
    assert "note: " not in outcome.out
    assert "nothing that is recorded has changed since" in outcome.out
    record = json.loads((run_dir / "run.json").read_text())
    assert "source_files" in record
    assert "source_files" not in record["resumed"][0], "they are those of the beginning"
    assert Before(run_dir).newest["source_files"] == record["source_files"]


@pytest.mark.parametrize("lost", ["model.safetensors", "summary.json"])
def test_what_was_not_compared_is_not_the_same(lost, run_dir, dltrain, tmp_path):
    (run_dir / lost).unlink()
    weights = run_dir / "model.safetensors"
    weights.unlink(missing_ok=True)
    outcome = dltrain("rerun", "r", *SAME_AGAIN)
    assert outcome.code == 6
    assert "weights: not compared: one of the runs has none\n" in outcome.out
    assert "\nnot known to be the same: r and again\n" in outcome.out
    assert json.loads((tmp_path / "again" / "rerun.json").read_text())["same"] is False


def test_a_full_disk_behind_the_screen_is_no_other_verdict(run_dir, tmp_path):
    edit(run_dir, "summary.json", status="interrupted")  # which is noted before the training
    command = [sys.executable, "-m", "dltrain", "rerun", str(run_dir), "loggers=none"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*command, "hydra.run.dir=again"], cwd=tmp_path, stdout=full,
            stderr=subprocess.PIPE, text=True, timeout=120,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "again" / "rerun.json").read_text())["same"] is True


def damage_weights(run_dir):
    path = run_dir / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9] + b"\x00\xff" * 4 + b"\x00")


def damage_rows(run_dir):
    with open(run_dir / "metrics.jsonl", "wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("damage", [damage_weights, damage_rows])
def test_what_cannot_be_compared_is_said_before_training(damage, run_dir, dltrain, tmp_path):
    damage(run_dir)
    outcome = dltrain("rerun", "r", *SAME_AGAIN)
    assert outcome.code == 2
    assert "r/" in outcome.err
    assert not (tmp_path / "again").exists()


def test_what_a_resumed_run_had_before_is_named(run_dir, dltrain):
    record = json.loads((run_dir / "run.json").read_text())
    old = record["versions"] | {"numpy": "1.0"}
    edit(run_dir, "run.json", resumed=[record], versions=old | {"torch": "1.0"})
    outcome = dltrain("rerun", "r", *SAME_AGAIN)
    assert outcome.code == 0
    now = record["versions"]["torch"]
    assert f"version of torch 1.0 -> {now} (before it was resumed)\n" in outcome.out


def test_settings_that_were_changed_on_the_way_are_said(dltrain, tmp_path):
    assert dltrain("train", *SHORT[1:], "hydra.run.dir=r", "trainer.max_epochs=1").code == 0
    assert dltrain("resume", "r", "trainer.max_epochs=2").code == 0
    outcome = dltrain("rerun", "r", *SAME_AGAIN)
    assert outcome.code == 6
    assert "note: its settings were changed on its way" in outcome.out


def test_of_a_run_that_has_not_ended_its_rows_are_compared(run_dir, dltrain):
    edit(run_dir, "summary.json", status="interrupted")
    rows = (run_dir / "metrics.jsonl").read_text().splitlines()
    (run_dir / "metrics.jsonl").write_text("\n".join(rows[:1]) + "\n")
    outcome = dltrain("rerun", "r", *SAME_AGAIN)
    assert outcome.code == 0
    assert "note: the run has not come to its end" in outcome.out
    assert "weights: not compared: the run had not ended" in outcome.out


def test_without_a_directory_of_its_own_it_gets_one_by_name(run_dir, dltrain, tmp_path):
    assert dltrain("rerun", "r", "loggers=none").code == 0
    (record,) = (tmp_path / "outputs").rglob("run.json")
    made = record.parent
    assert made.parent.name == "digits_mlp"
    assert made.name.endswith("_rerun_of_r")


@pytest.mark.parametrize(("old", "new"), [
    ("outputs/x/2026-11-23_09-02-11", "2026-11-24_10-00-00_rerun_of_2026-11-23_09-02-11"),
    ("s/3_optimizer.lr=0.1,seed=2", "2026-11-24_10-00-00_rerun_of_3_optimizer.lr=0.1,seed=2"),
    ("x/2026-11-24_09-00-00_rerun_of_r", "2026-11-24_10-00-00_rerun_of_2026-11-24_09-00-00"),
    ("/", "2026-11-24_10-00-00_rerun"),
    ("a\x1b[2J b", "2026-11-24_10-00-00_rerun_of_a2Jb"),
])  # fmt: skip
def test_its_name_says_of_what_it_is_a_rerun(old, new):
    assert name_of_rerun(Path(old), datetime(2026, 11, 24, 10)) == new


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "prints its help"),
        (["r", "optimizer.lr=1"], "`optimizer.lr` cannot be changed here"),
        (["r", "hydra.run.dir=r"], "r holds a run already"),
        (["r", "hydra.run.dir="], "hydra.run.dir is empty"),
        (["r", "--now"], "there is no flag --now"),
        (["nowhere"], "there is no directory `nowhere`"),
        (["r", "trainer.threads=0"], "trainer.threads"),
        (["r", "seed"], "`seed` is no key=value"),
    ],
)
def test_mistakes(words, said, run_dir, without_torch):
    outcome = without_torch("rerun", *words)
    if not words:
        assert outcome.out.startswith("usage: dltrain rerun RUN")
        return
    assert outcome.code == 2
    assert said in outcome.err
    assert not outcome.torch


HOSTILE = {
    "name": lambda text: text.replace("name: digits_mlp", "name: ../../escaped"),
    "target": lambda text: text.replace("dltrain.data.digits.Digits", "os.system"),
    "interpolation": lambda text: text.replace("seed: 0", "seed: ${oc.env:HOME}"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_stranger_s_config_is_refused(what, run_dir, without_torch, tmp_path):
    text = (run_dir / "config.yaml").read_text()
    hostile = HOSTILE[what](text)
    assert hostile != text
    (run_dir / "config.yaml").write_text(hostile)
    outcome = without_torch("rerun", "r")
    assert outcome.code == 2, outcome
    assert not outcome.torch
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r"]


def test_a_stranger_s_record_is_no_command(run_dir, dltrain, tmp_path):
    """What it says is shown, never run; what it says wrongly is a difference."""
    edit(
        run_dir,
        "run.json",
        command=f"touch {tmp_path}/canary",
        device="tpu\x1b[2J",
        precision=["bf16"],
        git={"commit": "--output=canary", "diff": 3},
        settings_digest=["x"],
        versions={"\x1b[2J": {"a": 1}},
        data=7,
    )
    outcome = dltrain("rerun", "r", *SAME_AGAIN)
    assert outcome.code == 0, outcome.err
    assert "\x1b" not in outcome.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "r"]
