"""A sweep that is killed again and again ends as one that never was, and trains nothing twice."""

import json
import os
import random
import signal
import time

import pytest

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
    assert list(after.values()) == ["done"] * JOBS


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
