"""A sweep that was cut off: what is left of it runs, and only that, as it was composed before."""

import json
import re
import shutil
from pathlib import Path

import pytest
from run_reader import results

NAMES = ["0_lr=0.01", "1_lr=0.001", "2_lr=1"]


@pytest.fixture
def sweep(three_jobs, tmp_path):
    """A finished sweep of three jobs of two epochs, to be damaged."""
    shutil.copytree(three_jobs[0], tmp_path / "here")
    return tmp_path / "here"


def trained(outcome):
    """The jobs that a command has trained, by the lines that name their runs."""
    lines = [line for line in outcome.out.splitlines() if line.startswith("run ")]
    return [line.rpartition("/")[2] for line in lines]


def cut_off(sweep, number):
    """As after a SIGKILL behind the checkpoint of the first epoch."""
    run = sweep / NAMES[number]
    summary = json.loads((run / "summary.json").read_text())
    first, *later = sorted((run / "checkpoints").glob("step-*"))
    for path in later:
        shutil.rmtree(path)
    (run / "model.safetensors").unlink()
    step = int(first.name.partition("-")[2])
    summary |= {"status": "running", "step": step, "checkpoint": step}
    (run / "summary.json").write_text(json.dumps(summary))


@pytest.mark.parametrize("how", ["resume", "again"])
def test_what_is_left_runs_and_only_that(how, dltrain, sweep, three_jobs):
    expected = results(sweep)
    cut_off(sweep, 0)
    shutil.rmtree(sweep / NAMES[2])
    outcome = dltrain("resume", "here") if how == "resume" else dltrain(*three_jobs[1])
    assert outcome.code == 0, outcome.err
    assert trained(outcome) == [NAMES[0], NAMES[2]]
    assert "going on   from step 20 " in outcome.out
    assert results(sweep) == expected


def test_of_a_finished_sweep_nothing_is_left(dltrain, sweep):
    files = {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()}
    outcome = dltrain("resume", "here")
    assert (outcome.code, trained(outcome)) == (0, [])
    runs = {path for path in files if path.parent != sweep}
    assert {path: path.read_bytes() for path in runs} == {path: files[path] for path in runs}


def test_latest_is_the_sweep_of_which_jobs_are_left(dltrain, sweep, tmp_path):
    below = tmp_path / "outputs" / "here"
    below.parent.mkdir()
    sweep.rename(below)
    cut_off(below, 1)
    outcome = dltrain("resume", "latest", cwd=tmp_path)
    assert outcome.code == 0, outcome.err
    assert "latest     is of a sweep with 1 jobs left: outputs/here" in outcome.out
    assert trained(outcome) == [NAMES[1]]


def test_a_job_keeps_what_the_sweep_compares_it_by(dltrain, sweep):
    before = results(sweep)
    outcome = dltrain("resume", f"here/{NAMES[1]}", "optimizer.lr=0.5", "trainer.max_epochs=3")
    assert outcome.code == 2
    assert "this one is the job with optimizer.lr=0.001" in outcome.err
    assert results(sweep) == before
    assert dltrain("resume", f"here/{NAMES[1]}", "trainer.max_epochs=3").code == 0


def test_a_dry_run_of_a_resume_lists_what_is_left(dltrain, sweep):
    shutil.rmtree(sweep / NAMES[2])
    before = sorted(sweep.rglob("*"))
    outcome = dltrain("resume", "here", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "3 jobs, 2 of them over" in outcome.out
    assert sorted(sweep.rglob("*")) == before


def test_an_edited_yaml_changes_no_job(dltrain, tmp_path):
    mine = tmp_path / "mine" / "model" / "small.yaml"
    mine.parent.mkdir(parents=True)
    text = "defaults: [mlp]\nhidden_sizes: [8]\n"
    mine.write_text(text)
    argv = ("train", "-m", "--config-dir=mine", "model=small", "seed=1,2", "trainer.max_steps=2",
            "hydra/launcher=basic")  # fmt: skip
    assert dltrain(*argv, "hydra.sweep.dir=here").code == 0
    shutil.rmtree(tmp_path / "here" / "1_seed=2")
    mine.write_text(text.replace("[8]", "[16]"))
    outcome = dltrain("resume", "here")
    assert outcome.code == 0, outcome.err
    configs = [
        (tmp_path / "here" / name / "config.yaml").read_text() for name in ("0_seed=1", "1_seed=2")
    ]
    assert configs[0].replace("seed: 1", "seed: 2") == configs[1]


def test_a_job_that_failed_is_tried_again(dltrain, tmp_path):
    argv = ("train", "-m", "hydra.sweep.dir=here", "optimizer=sgd", "optimizer.lr=1e38,0.1",
            "trainer.max_steps=30", "hydra/launcher=basic")  # fmt: skip
    assert dltrain(*argv).code == 1
    listed = dltrain("resume", "here", "--dry-run").out
    assert "30 steps, 1.5 epochs (failed)  0_lr=1e+38" in listed
    assert "2 jobs, 1 of them over, 30 steps in all" in listed
    outcome = dltrain("resume", "here")
    assert outcome.code == 1
    assert "0_lr=1e+38: step" in outcome.err
    assert outcome.out.splitlines()[-1] == "here: 1 failed"


def test_every_job_is_recorded_before_the_first_one_starts(dltrain, tmp_path):
    argv = (
        "train",
        "-m",
        "hydra.sweep.dir=here",
        "loader.batch_size=5000,64",
        "trainer.max_steps=2",
        "hydra/launcher=basic",
    )
    assert dltrain(*argv).code == 1
    lines = [
        json.loads(line) for line in (tmp_path / "here" / "jobs.jsonl").read_text().splitlines()
    ]
    kinds = ["job" if "job" in line else line["state"] for line in lines]
    assert kinds == ["job", "job", "running", "failed", "running", "done"]
    job = lines[1]["job"]
    assert job["swept"] == {"loader.batch_size": "64"}
    assert job["directory"] == "1_batch_size=64"
    assert job["config"]["loader"]["batch_size"] == 64
    assert lines[3]["reason"].startswith("loader.batch_size is 5000")


def test_a_torn_last_line_is_what_a_kill_leaves(dltrain, sweep):
    shutil.rmtree(sweep / NAMES[1])
    with (sweep / "jobs.jsonl").open("a") as file:
        file.write('{"n\0\0\0')
    assert dltrain("resume", "here").code == 0
    outcome = dltrain("resume", "here")
    assert (outcome.code, trained(outcome)) == (0, [])


def replaced(old, new):
    return lambda text: text.replace(old, new)


DAMAGES = {
    "no json": ("jobs.jsonl", lambda text: "x" + text, "line 1 is damaged"),
    "half of a job": ("jobs.jsonl", lambda text: text[300:], "damaged|not what a sweep"),
    "a job too few": (
        "jobs.jsonl",
        lambda text: text.split("\n", 1)[1],
        "job 0 is missing|not an event",
    ),
    "elsewhere": ("jobs.jsonl", replaced('ory": "0_', 'ory": "../0_'), "no folder"),
    "interpolation": ("jobs.jsonl", replaced(': "digits_', ': "${oc.env:HOME}'), "interpolation"),
    "a target": ("jobs.jsonl", replaced("dltrain.data.digits.Digits", "os.system"), "_target_"),
    "no checkpoint": ("jobs.jsonl", replaced('"checkpoint": {', '"x": {'), "not the record"),
    "a launcher": ("sweep.json", replaced('"basic"', '"joblib"'), "names the launcher 'joblib'"),
    "another format": ("sweep.json", replaced('"format": 1', '"format": 7'), "version"),
    "no mapping": ("sweep.json", lambda text: "[]", "version"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_or_hostile_ledger_is_refused(name, dltrain, sweep):
    file, damage, message = DAMAGES[name]
    shutil.rmtree(sweep / NAMES[0])
    (sweep / file).write_text(damage((sweep / file).read_text()))
    outcome = dltrain("resume", "here")
    assert outcome.code == 2, outcome
    assert len(outcome.err.splitlines()) <= 6
    assert re.search(message, outcome.err), outcome.err
    assert not (sweep / NAMES[0]).exists()


@pytest.mark.parametrize("how", ["resume", "again", "new"])
def test_no_job_is_trained_through_a_link(how, dltrain, sweep, three_jobs, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    shutil.rmtree(sweep / NAMES[0])
    (sweep / NAMES[0]).symlink_to(tmp_path / "elsewhere")
    if how == "new":
        for path in [*sweep.glob("*.json*"), *(sweep / name for name in NAMES[1:])]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    outcome = dltrain("resume", "here") if how == "resume" else dltrain(*three_jobs[1])
    assert (outcome.code, trained(outcome)) == (2, [])
    assert f"here/{NAMES[0]} is a link; a job is trained in a folder" in outcome.err
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_list_of_what_is_left_checks_it_too(dltrain, sweep):
    file, damage, message = DAMAGES["a target"]
    (sweep / file).write_text(damage((sweep / file).read_text()))
    outcome = dltrain("resume", "here", "--dry-run")
    assert outcome.code == 2, outcome
    assert message in outcome.err


def test_what_a_stranger_wrote_steers_no_terminal(dltrain, sweep):
    path = sweep / "jobs.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if "job" in line:
            line["job"]["swept"] = {"a\x1b[2J": "b\x1b]0;x\x07\n\nc"}
            line["job"]["config"]["checkpoint"]["monitor"] = "loss\x1b[2J/val"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    outcome = dltrain("resume", "here")
    assert outcome.code == 0, outcome
    assert "b?]0;x???c" in outcome.out
    assert "\x1b" not in outcome.out + outcome.err


def test_two_processes_do_not_share_a_sweep(dltrain, sweep):
    from dltrain.claim import Claim

    with Claim(sweep):
        outcome = dltrain("resume", "here")
    assert outcome.code == 2
    assert "here is in use by another dltrain process" in outcome.err


@pytest.mark.parametrize(
    "text",
    ["optimizer.lr=3", "sweep.repeat=7", "sweep.grid={seed:[5]}", "sweep.halving.eta=2",
     "sweep.optuna.trials=9", "sweep.jobs_or_so=1"],
)  # fmt: skip
def test_the_jobs_of_a_sweep_cannot_be_changed(text, dltrain, sweep):
    outcome = dltrain("resume", "here", text)
    assert outcome.code == 2
    assert f"`{text}`: the jobs of a sweep are what they were" in outcome.err


def test_what_is_typed_when_it_goes_on_holds_from_then_on(dltrain, sweep, three_jobs):
    """Another launcher too, and what was typed for the first one is not for it."""
    asked = json.loads((sweep / "sweep.json").read_text())
    for name in ("overrides", "hydra"):
        asked[name].append("hydra.launcher.setup=[date]")
    (sweep / "sweep.json").write_text(json.dumps(asked | {"launcher": "submitit_slurm"}))
    shutil.rmtree(sweep / NAMES[2])
    outcome = dltrain("resume", "here", "hydra/launcher=basic", "sweep.on_error=stop")
    assert outcome.code == 0, outcome.err
    shutil.rmtree(sweep / NAMES[2])
    outcome = dltrain("resume", "here")
    assert (outcome.code, trained(outcome)) == (0, [NAMES[2]])
    asked = json.loads((sweep / "sweep.json").read_text())
    assert (asked["launcher"], asked["settings"]["on_error"]) == ("basic", "stop")
    assert dltrain(*three_jobs[1], "sweep.on_error=retry:2").code == 0
    assert json.loads((sweep / "sweep.json").read_text())["settings"]["on_error"] == "retry:2"


def test_a_mistake_that_is_typed_when_it_goes_on_changes_nothing(dltrain, sweep, three_jobs):
    before = (sweep / "sweep.json").read_bytes()
    for argv in (["resume", "here"], [text for text in three_jobs[1] if "lr=" not in text]):
        assert dltrain(*argv, "sweep.on_error=stop", "sweep.jobs=0").code == 2
    another = [text.replace("lr=0.01", "lr=0.02") for text in three_jobs[1]]
    assert dltrain(*another, "sweep.on_error=stop").code == 2
    assert (sweep / "sweep.json").read_bytes() == before


def test_a_hostile_ledger_is_refused_where_the_command_is_typed_again_too(
    dltrain, sweep, three_jobs
):
    file, damage, message = DAMAGES["a target"]
    shutil.rmtree(sweep / NAMES[0])
    (sweep / file).write_text(damage((sweep / file).read_text()))
    outcome = dltrain(*three_jobs[1])
    assert outcome.code == 2, outcome
    assert message in outcome.err
    assert not (sweep / NAMES[0]).exists()


def send_elsewhere(sweep, tmp_path):
    """The record of the first job, as a stranger might have changed it."""
    lines = (sweep / "jobs.jsonl").read_text().splitlines()
    job = json.loads(lines[0])
    job["job"]["config"]["loggers"]["mlflow"] = {
        "_target_": "dltrain.loggers.mlflow.MLflow",
        "tracking_uri": f"sqlite:///{tmp_path / 'elsewhere.db'}",
        "experiment": "x",
        "max_images": 4,
    }
    (sweep / "jobs.jsonl").write_text("\n".join([json.dumps(job), *lines[1:]]) + "\n")


@pytest.mark.parametrize(
    ("is_typed", "uri"), [(False, None), (True, "sqlite:///elsewhere.db")]
)  # fmt: skip
def test_a_node_sends_nothing_where_nobody_has_typed_the_command(is_typed, uri, sweep):
    from dltrain.commands.sweep_job import read_job

    send_elsewhere(sweep, Path())
    job = read_job(sweep, 0, [], is_typed=is_typed)
    assert job.config["loggers"]["mlflow"]["tracking_uri"] == uri


def test_what_a_recorded_job_would_send_elsewhere_is_left_out_and_said(dltrain, sweep, tmp_path):
    shutil.rmtree(sweep / NAMES[0])
    send_elsewhere(sweep, tmp_path)
    outcome = dltrain("resume", "here")
    assert "loggers.mlflow.tracking_uri" in outcome.err + outcome.out
    assert not (tmp_path / "elsewhere.db").exists()
