"""A sweep that is killed again and again ends as one that never was, and trains nothing twice."""

import json
import os
import random
import signal
import time

import pytest
from run_reader import results

from dltrain.sweeps.ledger import read_ledger

JOBS = 12
SWEEP = (
    "train", "-m", "hydra.sweep.dir=here", "optimizer.lr=0.01,0.001,0.1,1", "seed=1,2,3",
    "trainer.max_epochs=6", "trainer.threads=1", "--config-dir=../mine", "model=small",
)  # fmt: skip
MODEL = "defaults: [mlp]\nhidden_sizes: [16]\ndropout: 0.2\n"


def events(sweep):
    lines = (sweep / "jobs.jsonl").read_text().splitlines()
    parsed = [json.loads(line) for line in lines if line.endswith("}")]
    return [line for line in parsed if "state" in line]


def kill_when(holds, process, sweep, random):
    """SIGKILL to the process alone, at some moment after `holds` of the events; False: it ended."""
    while process.poll() is None:
        if holds(events(sweep) if has_begun(sweep) else []):
            time.sleep(random.random() * 0.3)
            process.kill()
            process.wait()
            return True
        time.sleep(0.01)
    return False


def after_jobs(count):
    return lambda events: sum(event["state"] == "done" for event in events) >= count


def after_events(count):
    return lambda events: len(events) >= count


def has_begun(sweep):
    return (sweep / "sweep.json").exists()


def wait_until_nobody_writes(sweep):
    """What the kernel kills with its parent may take a moment to go."""
    from dltrain.claim import is_held

    while any(is_held(path) for path in (sweep, *(run.parent for run in sweep.glob("*/run.json")))):
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "local"])
def test_killed_five_times_and_resumed_each_time(launcher, start, dltrain, tmp_path):
    """And between two kills somebody edits the model's file."""
    for name in ("whole", "killed", "mine/model"):
        (tmp_path / name).mkdir(parents=True)
    file = tmp_path / "mine" / "model" / "small.yaml"
    file.write_text(MODEL)
    assert dltrain(*SWEEP, "hydra/launcher=basic", cwd=tmp_path / "whole").code == 0
    expected = results(tmp_path / "whole" / "here")
    assert len(expected) == JOBS
    sweep, draw, num_kills = tmp_path / "killed" / "here", random.Random(launcher), 0
    for number in range(5):
        command = ("resume", "here") if has_begun(sweep) and number % 2 else SWEEP
        process = start(*command, f"hydra/launcher={launcher}", cwd=sweep.parent)
        holds = after_jobs(2 * number + draw.randrange(2))
        num_kills += kill_when(holds, process, sweep, draw)
        wait_until_nobody_writes(sweep)
        if has_begun(sweep):
            file.write_text(MODEL.replace("16", str(20 + number)))
    assert num_kills >= 3, "it was over before it could be killed"
    process = start("resume", "here", cwd=sweep.parent)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert results(sweep) == expected
    after = {}
    for event in events(sweep):
        assert after.get(event["number"]) != "done", f"{event} after it was done"
        after[event["number"]] = event["state"]
    # A job may be done, and the command be killed before it has noted so: its run says it
    assert [each.state for each in read_ledger(sweep).states()] == ["done"] * JOBS


def ends(sweep):
    """Of each job its state, and what it came to."""
    return [state.state for state in read_ledger(sweep).states()], results(sweep)


DECIDING = {
    "halving": ("optimizer.lr=0.0001,0.001,0.01,0.1,0.3,1", "sweep.halving.eta=2", "seed=1,2"),
    "optuna": ("optimizer.lr=tag(log,interval(1e-4,1))", "sweep.optuna.trials=12",
               "sweep.optuna.pruner=median", "sweep.optuna.pruner_args={n_startup_trials:2}",
               "sweep.optuna.sampler_args={n_startup_trials:3}"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sweeper", "launcher"), [("halving", "basic"), ("halving", "local"), ("optuna", "basic")]
)
def test_killed_five_times_the_same_jobs_are_stopped(sweeper, launcher, start, dltrain, tmp_path):
    """Of optuna with one job at a time: with several, what is tried depends on who is first."""
    if sweeper == "optuna":
        pytest.importorskip("optuna", minversion="4")
    argv = ("train", "-m", f"hydra/sweeper={sweeper}", "hydra.sweep.dir=here", *DECIDING[sweeper],
            "trainer.max_epochs=6", "trainer.threads=1", "model.hidden_sizes=[16]")  # fmt: skip
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    outcome = dltrain(*argv, "hydra/launcher=basic", cwd=tmp_path / "whole")
    assert outcome.code == 0, outcome.err
    expected = ends(tmp_path / "whole" / "here")
    assert len(expected[1]) == JOBS
    assert set(expected[0]) == {"done", "pruned"}
    sweep, draw, num_kills = tmp_path / "killed" / "here", random.Random(sweeper + launcher), 0
    for number in range(5):
        command = ("resume", "here") if has_begun(sweep) else argv
        process = start(*command, f"hydra/launcher={launcher}", cwd=sweep.parent)
        holds = after_events(5 * number + draw.randrange(4))
        num_kills += kill_when(holds, process, sweep, draw)
        wait_until_nobody_writes(sweep)
    assert num_kills >= 3, "it was over before it could be killed"
    process = start("resume", "here", cwd=sweep.parent)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert ends(sweep) == expected


def test_ctrl_c_stops_a_sweep_in_order_and_says_how_to_go_on(start, dltrain, tmp_path):
    long = ("trainer.max_epochs=100000", "model.hidden_sizes=[8]", "trainer.threads=1")
    argv = ("train", "-m", "seed=1,2,3", "hydra.sweep.dir=here", "hydra/launcher=basic", *long)
    process = start(*argv)
    run = tmp_path / "here" / "0_seed=1"
    while not list(run.glob("checkpoints/step-*")) and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "dltrain resume here\n" in out.decode()
    assert json.loads((run / "summary.json").read_text())["status"] == "interrupted"
    assert not (tmp_path / "here" / "2_seed=3").exists()
