"""A sweep that is killed again and again ends as one that never was, and trains nothing twice."""

import json
import os
import random
import signal
import time

import pytest

from dltrain.sweeps.ledger import read_ledger

JOBS = 12
SWEEP = (
    "train", "-m", "hydra.sweep.dir=here", "optimizer.lr=0.01,0.001,0.1,1", "seed=1,2,3",
    "trainer.max_epochs=6", "trainer.threads=1", "model.hidden_sizes=[16]", "model.dropout=0.2",
)  # fmt: skip


def results(sweep):
    """Of each job what it came to: the metrics of every row, and the weights."""
    found = {}
    for run in sorted(path.parent for path in sweep.glob("*/run.json")):
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        numbers = [[row["step"], row["split"], row["loss"], row["accuracy"]] for row in rows]
        found[run.name] = numbers, (run / "model.safetensors").read_bytes()
    return found


def events(sweep):
    lines = (sweep / "jobs.jsonl").read_text().splitlines()
    parsed = [json.loads(line) for line in lines if line.endswith("}")]
    return [line for line in parsed if "state" in line]


def kill_when_jobs_are_done(process, sweep, num_done, random):
    """SIGKILL to the process alone, at some moment after so many jobs are done; False: it ended."""
    while process.poll() is None:
        done = sum(event["state"] == "done" for event in events(sweep)) if has_begun(sweep) else 0
        if done >= num_done:
            time.sleep(random.random() * 0.3)
            process.kill()
            process.wait()
            return True
        time.sleep(0.01)
    return False


def kill_after_events(process, sweep, num_events, random):
    """SIGKILL at some moment after so many events of jobs; False: it ended before."""
    while process.poll() is None:
        if has_begun(sweep) and len(events(sweep)) >= num_events:
            time.sleep(random.random() * 0.3)
            process.kill()
            process.wait()
            return True
        time.sleep(0.01)
    return False


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
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    assert dltrain(*SWEEP, "hydra/launcher=basic", cwd=tmp_path / "whole").code == 0
    expected = results(tmp_path / "whole" / "here")
    assert len(expected) == JOBS
    sweep, draw, num_kills = tmp_path / "killed" / "here", random.Random(launcher), 0
    for number in range(5):
        command = ("resume", "here") if has_begun(sweep) else SWEEP
        process = start(*command, f"hydra/launcher={launcher}", cwd=sweep.parent)
        num_kills += kill_when_jobs_are_done(process, sweep, 2 * number + draw.randrange(2), draw)
        wait_until_nobody_writes(sweep)
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
    """Of each job its state, the metrics of every row, and the weights of its last checkpoint."""
    from dltrain.sweeps.ledger import read_ledger

    found = {}
    for state in read_ledger(sweep).states():
        run = sweep / state.job.directory
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        numbers = [[row["step"], row["split"], row["loss"], row["accuracy"]] for row in rows]
        last = max((run / "checkpoints").glob("step-*"))
        found[run.name] = state.state, numbers, (last / "model.safetensors").read_bytes()
    return found


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
    assert len(expected) == JOBS
    assert {"done", "pruned"} == {state for state, *_ in expected.values()}
    sweep, draw, num_kills = tmp_path / "killed" / "here", random.Random(sweeper + launcher), 0
    for number in range(5):
        command = ("resume", "here") if has_begun(sweep) else argv
        process = start(*command, f"hydra/launcher={launcher}", cwd=sweep.parent)
        num_kills += kill_after_events(process, sweep, 5 * number + draw.randrange(4), draw)
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
