"""A run is never lost and never lies: killed and resumed, it ends as if nothing had happened."""

import json
import os
import random
import shlex
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml
from run_reader import assert_same, metrics, newest_step, points, wait_for_step

from dltrain.claim import Claim
from dltrain.durable import replace_text
from dltrain.engine.checkpoint import read_checkpoint, write_checkpoint
from dltrain.errors import UserError
from dltrain.loggers.events import event_files
from dltrain.runs import find_run

# Everything that draws random numbers or has a state: dropout, augmentation, EMA, BatchNorm
EXACT = (
    "model=cnn", "model.widths=[4,8]", "model.dropout=0.2",
    "augmentation=[crop_flip,mixup_cutmix]", "augmentation.crop.padding=1",
    "callbacks=[default,ema]", "trainer.accumulate=2", "trainer.max_epochs=16",
    "trainer.log_every=7steps", "checkpoint.every=9steps", "trainer.eval_every=15steps",
    "trainer.threads=1", "trainer.device=cpu", "hydra.run.dir=run",
)  # fmt: skip
NUM_STEPS = 16 * 20


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run that nobody interrupted."""
    from dltrain.cli import run

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("reference")
        patch.chdir(folder)
        handlers = [(n, signal.getsignal(n)) for n in (2, 10, 12, 15)]
        assert run(["train", *EXACT]) == 0
        for number, handler in handlers:
            signal.signal(number, handler)
        yield folder / "run"


def test_killed_at_three_random_steps_it_ends_the_same(start, shell, reference, tmp_path):
    """Each time it goes on with another number of workers. Many more kills: test_kills.py."""
    seed = time.time_ns()
    print(f"seed {seed}")  # shown where this fails
    moments, run_dir = random.Random(seed), tmp_path / "run"
    argv = ("train", *EXACT)
    for number, step in enumerate(sorted(moments.sample(range(0, NUM_STEPS - 60), 3))):
        process = start(*argv)
        assert wait_for_step(process, run_dir, step), process.communicate()
        time.sleep(moments.random() * 0.02)
        process.kill()
        process.communicate()
        if run_dir.joinpath("config.yaml").is_file():
            argv = ("resume", "run", f"loader.num_workers={number}")
    outcome = shell(*argv)
    assert outcome.code == 0, outcome.err
    assert_same(run_dir, reference)
    assert len(event_files(run_dir)) > 1


# ---------------------------------------------------------------------- signals


def test_signals_save_and_say_how_to_go_on(start, dltrain, reference, tmp_path):
    codes = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}
    started = {}
    for number in codes:  # together: what they cost is the import of torch
        folder = tmp_path / number.name
        folder.mkdir()
        started[number] = start("train", *EXACT, cwd=folder)
    for number, process in started.items():
        run_dir = tmp_path / number.name / "run"
        assert wait_for_step(process, run_dir, 40), process.communicate()
        process.send_signal(number)
    for number, process in started.items():
        out, err = (text.decode() for text in process.communicate(timeout=60))
        run_dir = tmp_path / number.name / "run"
        assert process.returncode == codes[number], err
        assert err.strip() == ""
        summary = json.loads((run_dir / "summary.json").read_text())
        assert summary["status"] == "interrupted"
        assert newest_step(run_dir) == summary["step"] < NUM_STEPS
        command = out.splitlines()[-1].strip()
        assert command == "dltrain resume run"
        assert command in (run_dir / "train.log").read_text()
    outcome = dltrain(*shlex.split(command)[1:], cwd=run_dir.parent)  # of the last of them
    assert outcome.code == 0, outcome.err
    assert_same(run_dir, reference)


def test_a_second_signal_of_a_scheduler_does_not_cut_the_save_short(start, tmp_path):
    process = start("train", *EXACT)
    assert wait_for_step(process, tmp_path / "run", 20)
    for _ in range(5):
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("interrupted", newest_step(tmp_path / "run"))


def test_a_sweep_that_is_stopped_starts_no_other_job(start, tmp_path):
    settings = [each for each in EXACT if "hydra.run.dir" not in each]
    sweep = ("train", "-m", "seed=1,2,3", "hydra.sweep.dir=s", "hydra/launcher=basic")
    process = start(*sweep, *settings)
    assert wait_for_step(process, tmp_path / "s" / "0_seed=1", 20)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert sorted(path.name for path in (tmp_path / "s").glob("*/")) == ["0_seed=1"]


# ---------------------------------------------------------------------- resume

SHORT = ("trainer.max_epochs=2", "trainer.threads=1", "model.hidden_sizes=[16]")


@pytest.fixture
def run_dir(finished_run, tmp_path):
    """A finished run of two epochs, copied: that a run can be moved is part of every test."""
    return shutil.copytree(finished_run, tmp_path / "elsewhere" / "r")


def config_of(run_dir):
    return yaml.safe_load((run_dir / "config.yaml").read_text())


def status_of(run_dir):
    return json.loads((run_dir / "summary.json").read_text())


def assert_unique(run_dir):
    keys = [(row["step"], row["split"]) for row in metrics(run_dir)]
    assert len(keys) == len(set(keys))
    points(run_dir)


def test_a_finished_run_is_left_alone(run_dir, dltrain):
    before = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
    outcome = dltrain("resume", str(run_dir))
    assert outcome.code == 0
    assert "is completed (40 steps)" in outcome.out
    assert {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()} == before


def test_a_finished_run_goes_on_longer(run_dir, dltrain):
    outcome = dltrain("resume", str(run_dir), "trainer.max_epochs=4")
    assert outcome.code == 0, outcome.err
    assert config_of(run_dir)["trainer"]["max_epochs"] == 4
    assert (status_of(run_dir)["step"], status_of(run_dir)["status"]) == (80, "completed")
    vals = [row["step"] for row in metrics(run_dir) if row["split"] == "val"]
    assert vals == [20, 40, 60, 80]
    assert_unique(run_dir)


def test_what_is_typed_after_resume_is_accepted(run_dir, dltrain):
    argv = ("optimizer.lr=0.05", "trainer.max_epochs=3", "model.dropout=0.1")
    outcome = dltrain("resume", str(run_dir), *argv)
    assert outcome.code == 0, outcome.err
    config = config_of(run_dir)
    assert (config["optimizer"]["lr"], config["model"]["dropout"]) == (0.05, 0.1)
    assert config["model"]["hidden_sizes"] == [16]
    assert_unique(run_dir)


def test_an_optimizer_and_its_lr_can_be_changed_on_the_way(run_dir, dltrain):
    argv = ("optimizer=sgd", "optimizer.lr=0.0625", "scheduler=constant", "trainer.max_epochs=3")
    outcome = dltrain("resume", str(run_dir), *argv)
    assert outcome.code == 0, outcome.err
    assert config_of(run_dir)["optimizer"]["_target_"] == "torch.optim.SGD"
    trained = [row["lr"] for row in metrics(run_dir) if row["split"] == "train"]
    assert trained[-1] == 0.0625


def test_a_group_replaces_that_group_alone(run_dir, dltrain):
    argv = ("scheduler=constant", "callbacks=[default,ema]", "trainer.max_epochs=3")
    outcome = dltrain("resume", str(run_dir), *argv)
    assert outcome.code == 0, outcome.err
    config = config_of(run_dir)
    assert config["scheduler"]["_target_"].endswith("Constant")
    assert set(config["callbacks"]) == {"progress", "ema"}
    assert config["model"]["hidden_sizes"] == [16]
    assert json.loads((run_dir / "run.json").read_text())["choices"]["scheduler"] == "constant"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("optimzer.lr=1", "`optimizer.lr`"),
        ("optimizer.lr=-1", "optimizer.lr is -1"),
        ("optimizer.lr=1,2", "several values"),
        ("optimizer=nope", "choices of optimizer"),
        ("hydra.run.dir=x", "dltrain train"),
        ("trainer.max_epochs=x", "trainer.max_epochs is 'x'"),
        ("model.hidden_sizes=[7]", "does not fit"),
        ("x y", "key=value"),
        ("model._target_=os.system", "not allowed"),
        ("name=../x", "it must be a path"),
    ],
)
def test_a_mistake_after_resume_changes_nothing(override, named, run_dir, dltrain):
    before = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
    outcome = dltrain("resume", str(run_dir), "trainer.max_steps=60", override)
    assert outcome.code == 2, outcome
    assert named in outcome.err
    assert 1 <= len(outcome.err.splitlines()) <= 6
    assert {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()} == before


def test_resume_latest(dltrain, tmp_path):
    for seed in (1, 2):
        assert dltrain("train", *SHORT, f"seed={seed}", f"name=n{seed}").code == 0
        time.sleep(0.01)
    assert dltrain("resume", "latest", "trainer.max_epochs=3").code == 0
    steps = {path.parts[-3]: status_of(path.parent)["step"] for path in tmp_path.rglob("run.json")}
    assert steps == {"n1": 40, "n2": 60}


def test_a_folder_of_runs_names_the_newest_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(("a/new_sweep/1_lr=1", "a/old", "b/c/d/older")):
        Path("outputs", name).mkdir(parents=True)
        Path("outputs", name, "run.json").touch()
        os.utime(Path("outputs", name, "run.json"), (1e9 - age, 1e9 - age))
    Path("outputs/a/new_sweep/sweep.json").touch()
    Path("outputs/loop").symlink_to("..", target_is_directory=True)
    for text, named in (
        ("outputs", "1_lr=1, of the sweep outputs/a/new_sweep"), ("outputs/b", "b/c/d/older"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"no config.yaml\nthe newest run below .*{named}$"):
            find_run(text)
    monkeypatch.setattr("dltrain.runs.MAX_LOOKED_AT", 2)  # the root of a file server, say
    with pytest.raises(UserError, match=r"no config.yaml$"):
        find_run("outputs")


def test_auto_starts_then_goes_on_then_is_done(dltrain, tmp_path):
    argv = ("train", *SHORT, "resume=auto", "hydra.run.dir=r")
    assert dltrain(*argv).code == 0
    assert "is completed" in dltrain(*argv).out
    longer = ("train", *SHORT[1:], "resume=auto", "hydra.run.dir=r", "trainer.max_epochs=3")
    outcome = dltrain(*longer, "trainer.log_every=5steps", "checkpoint.keep=5")
    assert outcome.code == 0, outcome.err
    assert status_of(tmp_path / "r")["step"] == 60
    assert_unique(tmp_path / "r")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optimizer.lr=0.5", "optimizer.lr: "),
        ("seed=5", "seed: 0 -> 5"),
        ("loader.batch_size=32", "loader.batch_size: 64 -> 32"),
        ("model=linear", "model."),
        ("augmentation=crop_flip", "augmentation"),
    ],
)
def test_auto_refuses_another_run_and_names_what_changed(override, line, run_dir, dltrain):
    before = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
    settings = [each for each in SHORT if override != "model=linear" or "model." not in each]
    argv = ("train", *settings, "resume=auto", f"hydra.run.dir={run_dir}", override)
    outcome = dltrain(*argv, cwd=run_dir)
    assert outcome.code == 2, outcome
    assert line in outcome.err
    assert " -> " in outcome.err
    assert f"dltrain resume {run_dir}" in outcome.err
    assert {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()} == before


def test_two_processes_do_not_share_a_directory(run_dir, dltrain):
    with Claim(run_dir):
        for argv in (
            ("resume", str(run_dir), "trainer.max_epochs=3"),
            ("train", *SHORT, "resume=auto", f"hydra.run.dir={run_dir}"),
        ):
            outcome = dltrain(*argv)
            assert outcome.code == 2
            assert "in use by another dltrain process" in outcome.err
    assert dltrain("resume", str(run_dir), "trainer.max_epochs=3").code == 0


def damage(checkpoint, how):
    path = checkpoint / "model.safetensors"
    data = bytearray(path.read_bytes())
    if how == "a bit":
        data[len(data) // 2] ^= 1
    elif how == "the end":
        data = data[:-1]
    elif how == "a file":
        return path.unlink()
    elif how == "the manifest":
        path = checkpoint / "MANIFEST.json"
        data = path.read_bytes().replace(b'"step": 40', b'"step": 41')
    path.write_bytes(data)
    return None


@pytest.mark.parametrize("how", ["a bit", "the end", "a file", "the manifest"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(how, run_dir, dltrain):
    damage(run_dir / "checkpoints" / "step-00000040", how)
    outcome = dltrain("resume", str(run_dir), "trainer.max_epochs=3")
    assert outcome.code == 0, outcome.err
    assert "step-00000040 is damaged" in outcome.out
    assert (run_dir / "checkpoints" / "damaged-step-00000040").is_dir()
    assert status_of(run_dir)["step"] == 60
    assert_unique(run_dir)


def test_where_all_are_damaged_nothing_is_started_over(run_dir, dltrain):
    for checkpoint in (run_dir / "checkpoints").iterdir():
        damage(checkpoint, "a bit")
    outcome = dltrain("resume", str(run_dir), "trainer.max_epochs=3")
    assert outcome.code == 3
    assert outcome.err.startswith("dltrain: error: no checkpoint in ")
    assert len(outcome.err.splitlines()) <= 6
    assert (run_dir / "checkpoints" / "step-00000040").is_dir()


def test_a_run_killed_before_its_first_checkpoint_starts_over(run_dir, finished_run, dltrain):
    shutil.rmtree(run_dir / "checkpoints")
    (run_dir / "model.safetensors").unlink()  # it is written at the end
    summary = status_of(run_dir) | {"status": "running", "checkpoint": None}
    (run_dir / "summary.json").write_text(json.dumps(summary))
    outcome = dltrain("resume", str(run_dir))
    assert outcome.code == 0, outcome.err
    assert (run_dir / "model.safetensors").read_bytes() == (
        finished_run / "model.safetensors"
    ).read_bytes()
    assert metrics(run_dir) == metrics(finished_run)
    assert points(run_dir) == points(finished_run)


@pytest.mark.parametrize(
    "text",
    [
        "", "- 1\n", "a: [\n", "seed: &a [*a]\n", "seed: !!python/object/apply:os.getcwd []\n",
        "nme: x\n", "seed: '${oc.env:HOME}'\n", "x: " + "[" * 2000 + "]" * 2000 + "\n",
        "#" * (2 << 20), "seed: \x00",
    ],
)  # fmt: skip
def test_a_config_that_no_run_wrote_is_refused(text, run_dir, dltrain):
    (run_dir / "config.yaml").write_text(text)
    outcome = dltrain("resume", str(run_dir), "trainer.max_epochs=3")
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("dltrain: error: ")
    assert 1 <= len(outcome.err.splitlines()) <= 6


def test_a_budget_that_is_spent_is_refused_and_named(run_dir, dltrain):
    before = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
    for typed in ("trainer.max_steps=20", "trainer.max_epochs=1", "trainer.max_steps=40"):
        outcome = dltrain("resume", str(run_dir), typed)
        assert outcome.code == 2, outcome
        assert "the run is at step 40" in outcome.err
        assert typed in outcome.err
    assert {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()} == before


def test_a_command_that_is_shown_can_be_typed(start, dltrain, tmp_path):
    process = start("train", "hydra.run.dir='a b/r'", "trainer.max_epochs=3000")
    assert wait_for_step(process, tmp_path / "a b" / "r", 20), process.communicate()
    process.terminate()
    out, _ = process.communicate()
    command = out.decode().splitlines()[-1]
    step = json.loads((tmp_path / "a b" / "r" / "summary.json").read_text())["step"]
    outcome = dltrain(*shlex.split(command)[1:], f"trainer.max_steps={step}")
    assert outcome.code == 0, outcome.err


def test_with_another_batch_size_the_epochs_go_on(run_dir, dltrain):
    outcome = dltrain("resume", str(run_dir), "loader.batch_size=32", "trainer.max_epochs=4")
    assert outcome.code == 0, outcome.err
    assert "epoch 4/4" in outcome.out
    assert [row["epoch"] for row in metrics(run_dir) if row["split"] == "val"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("what", "said"),
    [("stop", "the loss on val is nan"), ("skip", "the weights of step 1 are not")],
)
def test_weights_that_no_loss_has_seen_are_not_left_behind_as_good(what, said, dltrain, tmp_path):
    argv = ("train", *SHORT[1:], "optimizer.lr=1e38", "trainer.max_steps=1", "hydra.run.dir=r")
    outcome = dltrain(*argv, "scheduler=constant", f"trainer.on_nonfinite={what}")
    assert outcome.code == 4, outcome
    assert said in outcome.err
    assert not (tmp_path / "r" / "model.safetensors").exists()
    assert list((tmp_path / "r").glob("checkpoints/step-*")) == []


def test_a_longer_run_that_was_stopped_at_its_start_is_not_taken_for_finished(
    run_dir, dltrain, monkeypatch
):
    """The config says the larger budget already, and the run has not begun."""

    def full(path, text, **options):
        replace_text(path, text, **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dltrain.commands.provenance.replace_text", full)
    assert dltrain("resume", str(run_dir), "trainer.max_epochs=3").code == 5
    monkeypatch.undo()
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["trainer"]["max_epochs"] == 3
    outcome = dltrain("resume", str(run_dir), "trainer.max_epochs=3")
    assert outcome.code == 0, outcome.err
    assert status_of(run_dir)["step"] == 60


def test_tested_weights_without_a_checkpoint_are_not_trained_over(run_dir, dltrain):
    shutil.rmtree(run_dir / "checkpoints")
    (run_dir / "summary.json").unlink()
    before = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
    assert dltrain("resume", str(run_dir)).code == 3
    assert {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("recorder", {"offset": -1, "last": {}, "loggers": {}}), ("done", {}), ("origin", [[], 0]),
     ("step", "x"), ("best", {}), ("callbacks", -1), ("update", None), ("metrics", {"a": []})],
)  # fmt: skip
def test_a_state_that_no_run_wrote_is_refused(name, value, run_dir, dltrain):
    newest = max(run_dir.glob("checkpoints/step-*"))
    checkpoint = read_checkpoint(newest)
    write_checkpoint(
        newest.parent, checkpoint.step, model=checkpoint.model,
        state=checkpoint.state | {name: value}, metrics=checkpoint.metrics, config_digest="d",
    )  # fmt: skip
    outcome = dltrain("resume", str(run_dir), "trainer.max_epochs=3")
    assert outcome.code == 3, outcome
    assert f"`{name}`" in outcome.err
