"""What is handed to Slurm, and what becomes of it: its commands stand in, the jobs are real."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from run_reader import assert_same, newest_step, summary_of
from slurm_stand_in import directives, install

pytest.importorskip("submitit")

SLURM = "hydra/launcher=submitit_slurm"
SHORT = ("trainer.max_epochs=1", "trainer.threads=1", "model.hidden_sizes=[8]")
LONG = (
    "train", "-m", "model=cnn", "model.widths=[4,8]", "model.dropout=0.2", "trainer.max_epochs=40",
    "checkpoint.every=5steps", "trainer.threads=1", "trainer.device=cpu", "hydra.sweep.dir=here",
)  # fmt: skip


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The folder in which the stand-in keeps what it knows."""
    (tmp_path / "slurm").mkdir()
    for name, value in install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    # Whoever waits for a file server or a queue may wait for less here
    monkeypatch.setattr("dltrain.sweeps.submitit_engine.SlurmEngine.poll_sec", 0.1)
    monkeypatch.setattr("dltrain.sweeps.submitit_engine.SlurmEngine.grace_sec", 0.5)
    monkeypatch.setattr("dltrain.sweeps.submitit_engine.ASK_EVERY_SEC", 0.5)
    state = tmp_path / "slurm" / "state"
    yield state
    wait_until(lambda: not list(state.glob("*.pid")), limit_sec=30)


def wait_until(holds, process=None, limit_sec=120):
    deadline = time.monotonic() + limit_sec
    while not holds():
        assert time.monotonic() < deadline, "in vain"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)


def under_way(tmp_path, start, *settings):
    process = start(*LONG, SLURM, *settings, start_new_session=True)
    run = tmp_path / "here" / "0"
    wait_until(lambda: newest_step(run) >= 30, process)
    return process, run


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """How many jobs the ledger knew as handed over, at each of its syncs."""
    from dltrain.sweeps import ledger

    sync, counts = ledger.sync_file, []

    def counted(file, path):
        sync(file, path)
        counts.append(path.read_text().count('"engine"'))

    monkeypatch.setattr(ledger, "sync_file", counted)
    return counts


def test_an_array_with_the_limits_that_were_asked_for(dltrain, slurm, tmp_path, noted):
    settings = {
        "partition": "gpu", "timeout_min": 90, "cpus_per_task": 3, "gpus_per_node": 1,
        "mem_gb": 1.5, "signal_delay_s": 60, "qos": "low", "constraint": "a100",
        "setup": "['echo ready > ready']",
    }  # fmt: skip
    given = [f"hydra.launcher.{key}={value}" for key, value in settings.items()]
    given.append("+hydra.launcher.additional_parameters.mail-type=END")
    argv = ("train", "-m", "hydra.sweep.dir=here", "seed=1,2", *SHORT)
    outcome = dltrain(*argv, SLURM, *given)
    assert outcome.code == 0, outcome.err
    assert "submitit_slurm: 2 jobs handed over: 100_0 to 100_1" in outcome.out
    assert set(noted) == {0, 2}, "a kill between two notes would have the second started twice"
    found = directives(slurm / "100.sh")
    expected = {
        "array": "0-1%2", "partition": "gpu", "time": "90", "cpus-per-task": "3", "qos": "low",
        "gpus-per-node": "1", "mem": "1536MB", "signal": "USR2@60", "constraint": "a100",
        "job-name": "dltrain", "mail-type": "END", "requeue": "", "nodes": "1",
        "ntasks-per-node": "1",
    }  # fmt: skip
    assert {key: found.get(key) for key in expected} == expected
    assert (tmp_path / "ready").read_text() == "ready\n"
    states = [summary_of(run)["status"] for run in sorted((tmp_path / "here").glob("[01]_*"))]
    assert states == ["completed", "completed"]
    assert not list(tmp_path.rglob("*.pkl"))


@pytest.mark.slow
def test_more_jobs_than_an_array_may_have_are_several(dltrain, slurm):
    argv = ("train", "-m", "seed=1,2,3", "trainer.max_steps=1", "model=linear")
    outcome = dltrain(*argv, SLURM, "hydra.launcher.max_array_size=2")
    assert outcome.code == 0, outcome.err
    assert directives(slurm / "100.sh")["array"] == "0-1%2"
    assert "array" not in directives(slurm / "101.sh")


def test_what_slurm_refuses_is_said_in_its_words(dltrain, slurm, tmp_path):
    outcome = dltrain("train", "-m", "seed=1,2", *SHORT, SLURM, "hydra.launcher.partition=bad")
    assert outcome.code == 2
    assert "sbatch refused the jobs: sbatch: error: invalid partition specified" in outcome.err


@pytest.mark.slow
def test_a_job_whose_time_is_up_is_put_back_and_goes_on_to_the_same_bytes(
    start, slurm, tmp_path, shell
):
    assert shell(*LONG, "hydra/launcher=basic", cwd=slurm).code == 0
    process, run = under_way(tmp_path, start)
    os.kill(int((slurm / "100.pid").read_text()), signal.SIGTERM)  # as Slurm does: first this one
    os.kill(int((slurm / "100.pid").read_text()), signal.SIGUSR2)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out, err)
    assert_same(run, slurm / "here" / "0")
    assert len(json.loads((run / "run.json").read_text())["resumed"]) == 1
    assert len(list(slurm.glob("*.sh"))) == 1


@pytest.mark.slow
def test_a_job_that_slurm_itself_puts_back_is_not_taken_for_one_that_ended(start, slurm, tmp_path):
    """Preempted with SIGTERM alone, it saves and ends before it waits in the queue again."""
    process, run = under_way(tmp_path, start)
    (slurm / "100.requeue").touch()
    os.kill(int((slurm / "100.pid").read_text()), signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out, err)
    assert summary_of(run)["status"] == "completed"
    assert len(json.loads((run / "run.json").read_text())["resumed"]) == 1


@pytest.mark.slow
def test_a_job_that_somebody_cancels_is_said_to_be_cut_off(start, slurm, tmp_path):
    process, _ = under_way(tmp_path, start)
    subprocess.run(["scancel", "--name=dltrain", "100"], check=True)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"dltrain: error: 0: cut off at step" in err
    assert b"told to stop by submitit_slurm, or by whoever cancelled it" in err


@pytest.mark.slow
def test_ctrl_c_cancels_what_waits_and_what_runs_saves(start, slurm, tmp_path, shell):
    process, run = under_way(tmp_path, start)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, (out, err)
    assert summary_of(run)["status"] == "interrupted"
    assert (slurm / "100.state").read_text() == "CANCELLED"
    assert b"dltrain resume here" in out
    outcome = shell("resume", "here")
    assert outcome.code == 0, outcome.err
    assert summary_of(run)["status"] == "completed"


@pytest.mark.slow
def test_a_job_that_slurm_has_killed_is_a_failure_with_its_reason(dltrain, slurm, tmp_path):
    import threading

    def kill():
        wait_until(lambda: newest_step(tmp_path / "here" / "0") >= 30)
        (slurm / "100.state").write_text("OUT_OF_MEMORY")
        os.kill(int((slurm / "100.pid").read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = dltrain(*LONG, SLURM)
    killer.join()
    assert outcome.code == 1
    assert "0: Slurm has ended it: OUT_OF_MEMORY" in outcome.err
    log = Path(re.search("its output: (.*)", outcome.err)[1])
    assert (tmp_path / log).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("waits", [True, False], ids=["waits", "runs"])
def test_jobs_in_the_queue_are_found_again_by_resume(waits, start, slurm, tmp_path):
    if waits:
        (slurm / "hold").touch()
        process = start(*LONG, SLURM)
        jobs = tmp_path / "here" / "jobs.jsonl"
        wait_until(lambda: jobs.exists() and '"engine"' in jobs.read_text(), process)
    else:
        process, _ = under_way(tmp_path, start)
    process.kill()
    process.communicate()
    with (tmp_path / "out").open("wb") as out:
        process = start("resume", "here", stdout=out)
    wait_until(lambda: b"under way: 0" in (tmp_path / "out").read_bytes(), process)
    (slurm / "hold").unlink(missing_ok=True)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    run = tmp_path / "here" / "0"
    assert summary_of(run)["status"] == "completed"
    assert "resumed" not in json.loads((run / "run.json").read_text())
    assert len(list(slurm.glob("*.sh"))) == 1


@pytest.mark.slow
def test_lines_of_shell_are_never_taken_from_a_sweep_s_file(dltrain, slurm, tmp_path):
    argv = ("train", "-m", "hydra.sweep.dir=here", "seed=1", *SHORT, SLURM)
    assert dltrain(*argv, "hydra.launcher.setup=['echo > ran']").code == 0
    (tmp_path / "ran").unlink()
    outcome = dltrain("resume", "here")
    assert outcome.code == 2
    assert "hydra.launcher.setup=['echo > ran']`, which can run any code" in outcome.err
    assert dltrain("resume", "here", "hydra.launcher.setup=null").code == 0
    assert not (tmp_path / "ran").exists()


def test_without_slurm_the_message_says_where_to_start(dltrain, tmp_path):
    outcome = dltrain("train", "-m", "seed=1", *SHORT, SLURM)
    assert outcome.code == 2
    assert "there is no sbatch and srun here" in outcome.err
    assert not any(tmp_path.iterdir())
