"""Jobs on Ray: a cluster of this machine alone, started for the sweep; its jobs are real."""

import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
from run_reader import assert_same, newest_step, summary_of

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

LONG = (
    "train", "-m", "model=cnn", "model.widths=[4,8]", "model.dropout=0.2", "trainer.max_epochs=60",
    "checkpoint.every=5steps", "trainer.threads=1", "trainer.device=cpu", "hydra.sweep.dir=here",
)  # fmt: skip


@pytest.fixture
def ray(monkeypatch):
    """What chooses Ray, with its files in a folder of its own (the path of a socket is short)."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    folder = tempfile.mkdtemp(prefix="ray")
    yield "hydra/launcher=ray", f"+hydra.launcher.ray.init._temp_dir={folder}"
    wait_until(lambda: not processes_of(folder), limit_sec=60)
    shutil.rmtree(folder)


def processes_of(folder):
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if folder in (entry / "cmdline").read_text(errors="replace").replace("_temp_dir", ""):
                found.append(entry.name)
        except OSError:
            pass
    return found


def wait_until(holds, process=None, limit_sec=120):
    deadline = time.monotonic() + limit_sec
    while not holds():
        assert time.monotonic() < deadline, "in vain"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)


def under_way(tmp_path, start, ray):
    process = start(*LONG, *ray, start_new_session=True)
    run = tmp_path / "here" / "0"
    wait_until(lambda: newest_step(run) >= 30, process)
    return process, run, json.loads((run / "run.json").read_text())["pid"]


def test_jobs_are_trained_and_a_failure_is_told(shell, ray, tmp_path):
    short = ("trainer.max_epochs=1", "trainer.threads=1", "model.hidden_sizes=[8]")
    argv = ("train", "-m", "hydra.sweep.dir=here", "loader.batch_size=64,5000", *short)
    outcome = shell(*argv, *ray)
    assert outcome.code == 1
    assert "dltrain: error: 1_batch_size=5000: loader.batch_size is 5000" in outcome.err
    assert "Traceback" not in outcome.err
    assert "ray: 2 jobs handed over\n" in outcome.out
    (tmp_path / "one").mkdir()
    assert shell(*argv, "hydra/launcher=basic", cwd=tmp_path / "one").code == 1
    name = "0_batch_size=64"
    assert_same(tmp_path / "here" / name, tmp_path / "one" / "here" / name)
    assert "epoch 1/1" in (tmp_path / "here" / ".cluster" / "1" / "0.log").read_text()


def test_ctrl_c_has_the_jobs_save_and_resume_goes_on(start, shell, ray, tmp_path):
    process, run, _ = under_way(tmp_path, start, ray)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert summary_of(run)["status"] == "interrupted"
    assert f"dltrain resume here {ray[1]}" in out.decode()
    assert shell("resume", "here").code == 2, "what Ray is told is not taken from a file"
    outcome = shell("resume", "here", ray[1])
    assert outcome.code == 0, outcome.err
    assert summary_of(run)["status"] == "completed"


def test_a_job_that_dies_is_a_failure(start, ray, tmp_path):
    process, _, pid = under_way(tmp_path, start, ray)
    os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"dltrain: error: 0: WorkerCrashedError" in err


def test_jobs_end_with_the_process_that_watches_them_and_can_be_resumed(
    start, shell, ray, tmp_path
):
    process, run, _ = under_way(tmp_path, start, ray)
    process.kill()
    process.communicate()
    outcome = shell("resume", "here", ray[1])
    assert outcome.code == 0, outcome.err
    assert summary_of(run)["status"] == "completed"


def test_what_ray_does_not_know_is_a_mistake_of_the_command_line(shell, ray):
    outcome = shell(*LONG, *ray, "+hydra.launcher.ray.remote.num_gpu=1")
    assert outcome.code == 2
    assert "hydra.launcher.ray.remote: " in outcome.err
