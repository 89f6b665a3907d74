"""A run from a stranger is data: reading it runs nothing, writes nowhere else, and ends soon."""

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # pytest's importlib mode leaves that to us
from hostile import CHECKPOINTS, CONFIGS, IGNORED, PLACES, config, rewrite

from dltrain.stored import apply_overrides, not_taken_over, stored_config

LONGER = "trainer.max_epochs=3"


@pytest.fixture
def run_dir(finished_run, tmp_path):
    """A good run with a table as well, beside the user's home."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious.txt").write_text("precious")
    path = shutil.copytree(finished_run, tmp_path / "r")
    csv = "  csv:\n    _target_: dltrain.loggers.csv.CSV\n"
    (path / "config.yaml").write_text((path / "config.yaml").read_text() + csv)
    return path


def outside(folder):
    """Every file beside the run's directory: what nobody but the user may change."""
    files = (path for path in folder.rglob("*") if "r" not in path.relative_to(folder).parts[:1])
    return {path: path.read_bytes() for path in files if path.is_file()}


def assert_harmless(outcome, codes, before, folder):
    assert outcome.code in codes, outcome
    assert outside(folder) == before, "something outside of the run's directory was changed"
    lines = outcome.err.splitlines()
    assert len(lines) <= 6
    assert "Traceback" not in outcome.err
    assert all(line.isprintable() for line in lines), "it steers the terminal"
    assert len(outcome.err) < 3000


@pytest.mark.parametrize("name", [*CONFIGS, *PLACES])
def test_a_hostile_file_is_refused_before_torch_is_loaded(name, run_dir, without_torch, tmp_path):
    (CONFIGS | PLACES)[name](run_dir)
    before, names = outside(tmp_path), sorted(os.listdir(run_dir))
    outcome = without_torch("resume", "r", LONGER)
    assert_harmless(outcome, [2], before, tmp_path)
    assert outcome.err.startswith("dltrain: error: ")
    assert not outcome.torch
    assert sorted(os.listdir(run_dir)) == names


@pytest.mark.parametrize("name", IGNORED)
def test_what_is_not_needed_is_ignored(name, run_dir, dltrain, tmp_path):
    IGNORED[name](run_dir)
    before = outside(tmp_path)
    assert_harmless(dltrain("resume", "r", LONGER), [0], before, tmp_path)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_hostile_checkpoint_is_refused(name, run_dir, dltrain, tmp_path):
    """Its manifest is right: whoever makes one can compute digests."""
    CHECKPOINTS[name](run_dir)
    before = outside(tmp_path)
    outcome = dltrain("resume", "r", LONGER)
    assert_harmless(outcome, [2, 3], before, tmp_path)
    assert "dltrain: error: " in outcome.err


def test_a_link_inside_a_checkpoint_is_not_followed(run_dir, dltrain, tmp_path):
    newest = max((run_dir / "checkpoints").iterdir())
    (newest / "model.safetensors").rename(tmp_path / "home" / "w.safetensors")
    (newest / "model.safetensors").symlink_to(tmp_path / "home" / "w.safetensors")
    before = outside(tmp_path)
    assert_harmless(dltrain("resume", "r", LONGER), [0], before, tmp_path)
    assert (run_dir / "checkpoints" / f"damaged-{newest.name}").is_dir(), "it was used"


def test_a_file_named_by_the_state_is_never_another_path(run_dir, dltrain, tmp_path):
    for folder in (run_dir / "checkpoints").iterdir():
        state = (folder / "state.json").read_text()
        (events,) = (path.name for path in run_dir.glob("events.*"))
        assert events in state
        (folder / "state.json").write_text(state.replace(events, "../home/precious.txt"))
        rewrite(folder)
    before = outside(tmp_path)
    assert_harmless(dltrain("resume", "r", LONGER), [0, 2, 3], before, tmp_path)


def test_a_stored_config_does_not_download(run_dir, without_torch, tmp_path):
    """That writes outside of the run's directory: it has to be typed."""
    mnist = "_target_: dltrain.data.mnist.MNIST\n  root: home\n  download: true\n  num_val: 5"
    config("_target_: dltrain.data.digits.Digits", mnist)(run_dir)
    before = outside(tmp_path)
    outcome = without_torch("resume", "r", LONGER)
    assert_harmless(outcome, [2], before, tmp_path)
    assert "dataset.download=true" in outcome.err


def test_a_stored_logger_writes_nowhere_else_and_sends_nothing(run_dir):
    """It is as with a download; and where it is typed, it is what was typed."""
    loggers = """loggers:
  mlflow: {_target_: dltrain.loggers.mlflow.MLflow, experiment: x, max_images: 1,
    tracking_uri: "sqlite:///home/x.db"}
  wandb: {_target_: dltrain.loggers.wandb.WandB, project: x, max_images: 1, mode: online}
  "odd: 1": {_target_: dltrain.loggers.wandb.WandB, project: x, max_images: 1, mode: online}
"""
    text = (run_dir / "config.yaml").read_text().partition("loggers:")[0]
    (run_dir / "config.yaml").write_text(text + loggers)
    cfg = stored_config(run_dir)
    assert cfg.loggers.mlflow.tracking_uri is None
    assert {cfg.loggers.wandb.mode, cfg.loggers["odd: 1"].mode} == {"offline"}
    assert len(not_taken_over(run_dir, cfg)) == 2
    apply_overrides(cfg, ["loggers.wandb.mode=online", "~loggers.mlflow"], {})
    assert cfg.loggers.wandb.mode == "online"
    assert not not_taken_over(run_dir, cfg)
    (run_dir / "config.yaml").write_text(text + loggers.replace("dltrain.loggers.wandb", "mine"))
    assert stored_config(run_dir).loggers.wandb.mode == "online", "whoever allows it, vouches"


def test_the_newest_run_is_never_a_link(run_dir, without_torch, tmp_path):
    (tmp_path / "outputs" / "x").mkdir(parents=True)
    (tmp_path / "outputs" / "x" / "run.json").symlink_to(tmp_path / "nowhere")
    outcome = without_torch("resume", "latest")
    assert outcome.code == 2
    assert "no run below outputs" in outcome.err
