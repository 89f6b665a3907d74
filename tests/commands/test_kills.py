"""SIGKILL at any moment, any number of times: the run ends as if nothing had happened."""

import os
import random
import time

import pytest
import yaml
from run_reader import assert_same, summary_of
from safetensors import safe_open

from dltrain.engine.checkpoint import read_checkpoint, steps_in

BASE = (
    "model=cnn", "model.widths=[4,8]", "model.dropout=0.2", "augmentation=crop_flip",
    "trainer.max_epochs=30", "trainer.log_every=7steps", "trainer.eval_every=15steps",
    "trainer.threads=1", "trainer.device=cpu", "hydra.run.dir=run", "loggers=[tensorboard,csv]",
)  # fmt: skip
# What a run can be like; the number of workers may change each time it goes on
KINDS = {
    "resident, EMA, accumulation": (
        "callbacks=[default,ema]", "trainer.accumulate=2", "checkpoint.every=9steps",
    ),
    "streamed by workers": ("loader.num_workers=2", "checkpoint.every=4steps"),
    "bf16, saving all the time": (
        "trainer.precision=bf16", "checkpoint.every=1steps", "trainer.max_epochs=8",
    ),
    "batch norm, SGD, one-cycle, clipping": (
        "model=resnet20", "~model.dropout", "~model.widths", "optimizer=sgd", "optimizer.lr=0.05",
        "optimizer.momentum=0.9", "scheduler=one_cycle", "trainer.max_grad_norm=1",
        "trainer.max_epochs=6", "trainer.log_every=1steps", "trainer.eval_every=3steps",
        "checkpoint.every=2steps", "loader.batch_size=160", "loader.num_workers=1",
    ),
    "early stopping, skipping": (
        "callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=30",
        "trainer.on_nonfinite=skip", "checkpoint.every=5steps", "checkpoint.keep=3",
    ),
}  # fmt: skip
KILLS_A_RUN = 4


def settings_of(kind):
    """The arguments of a run of this kind: a later one replaces an earlier of the same key."""
    removed = [each.lstrip("~") for each in KINDS[kind] if each.startswith("~")]
    given = {
        each.partition("=")[0]: each for each in (*BASE, *KINDS[kind]) if not each.startswith("~")
    }
    return [text for key, text in given.items() if key not in removed]


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Of each kind the run that nobody interrupted, made when it is first asked for."""
    made = {}

    def reference(kind, shell):
        if kind not in made:
            folder = tmp_path_factory.mktemp("reference")
            outcome = shell("train", *settings_of(kind), cwd=folder)
            assert outcome.code == 0, outcome.err
            made[kind] = folder / "run"
        return made[kind]

    return reference


def names_in(folder):
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def wait(process, run_dir, moments, aimed):
    """Until a random moment of the run; `aimed`: within a millisecond or two of a save's work."""
    folder = run_dir / "checkpoints"
    if not aimed:
        deadline = time.monotonic() + moments.uniform(0.3, 4.0)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        return
    changes, before = moments.randrange(1, 120), names_in(folder)
    while process.poll() is None and changes:
        now = names_in(folder)
        changes, before = changes - (now != before), now
    time.sleep(moments.random() * 0.003)


def assert_readable(run_dir):
    """What lies there after a kill: whole files, or ones that say that they are not."""
    for path in steps_in(run_dir / "checkpoints"):
        read_checkpoint(path)
    if (run_dir / "summary.json").exists():
        assert summary_of(run_dir)["status"] in ("running", "completed")
    if (run_dir / "config.yaml").exists():
        assert yaml.safe_load((run_dir / "config.yaml").read_text())["name"]
    if (run_dir / "model.safetensors").exists():
        safe_open(run_dir / "model.safetensors", "numpy")


def killed(start, shell, tmp_path, kind, seed, num_kills):
    """The directory of a run that was killed so many times, and how many of those met it alive."""
    moments, run_dir, met = random.Random(seed), tmp_path / "run", 0
    for number in range(num_kills):
        going_on = (run_dir / "config.yaml").is_file()
        workers = f"loader.num_workers={moments.choice((0, 1, 2))}"
        argv = ("resume", "run", workers) if going_on else ("train", *settings_of(kind))
        process = start(*argv)
        wait(process, run_dir, moments, aimed=(number + seed) % 2 == 0)
        process.kill()
        _, err = process.communicate()
        assert process.returncode in (-9, 0), err.decode()
        met += process.returncode == -9
        assert_readable(run_dir)
    going_on = (run_dir / "config.yaml").is_file()
    outcome = shell(*(("resume", "run") if going_on else ("train", *settings_of(kind))))
    assert outcome.code == 0, outcome.err
    assert not [path for path in run_dir.rglob(".*") if path.name != ".hydra"], "leftovers"
    return run_dir, met


@pytest.mark.slow  # a short form is in test_resume.py
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_killed_many_times(kind, seed, start, shell, references, tmp_path):
    run_dir, met = killed(start, shell, tmp_path, kind, seed, KILLS_A_RUN)
    print(f"{kind}, seed {seed}: {KILLS_A_RUN} kills, {met} of a living run")
    assert_same(run_dir, references(kind, shell))
