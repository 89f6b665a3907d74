"""Jobs by submitit's own local executor: the same runs, whoever is killed, stopped or requeued."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from run_reader import assert_same, metrics, newest_step, summary_of

pytest.importorskip("submitit")

LOCAL = "hydra/launcher=submitit_local"
# Two seconds of training; nothing is compared that depends on when a job was stopped
LONG = (
    "train", "-m", "model=cnn", "model.widths=[4,8]", "model.dropout=0.2", "trainer.max_epochs=40",
    "augmentation=crop_flip", "trainer.log_every=7steps", "trainer.eval_every=15steps",
    "checkpoint.every=5steps", "trainer.threads=1", "trainer.device=cpu", "hydra.sweep.dir=here",
)  # fmt: skip
SHORT = ("trainer.max_epochs=1", "trainer.threads=1", "model.hidden_sizes=[8]")


def processes_in(folder):
    """Every process of a sweep whose current folder is `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            ours = b"dltrain" in words or any(word.startswith(b"submitit.") for word in words)
            if ours and os.readlink(entry / "cwd") == str(folder):
                found.append(int(entry.name))
        except OSError:
            pass
    return found


@pytest.fixture(autouse=True)
def _nobody_is_left(tmp_path):
    yield
    left = processes_in(tmp_path)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "processes survived the test"


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The long job, run by Hydra's own way within one process, and never stopped."""
    return tmp_path_factory.mktemp("reference")


def finished(reference, shell):
    if not (reference / "here").exists():
        outcome = shell(*LONG, "hydra/launcher=basic", cwd=reference)
        assert outcome.code == 0, outcome.err
    return reference / "here" / "0"


def wait_until(holds, process=None, limit_sec=120):
    """Until something is so; a process that ends before shows what it said."""
    deadline = time.monotonic() + limit_sec
    while not holds():
        assert time.monotonic() < deadline, "in vain"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.005)


def under_way(tmp_path, start):
    """A sweep of one long job that has saved something, and the job's process."""
    process = start(*LONG, LOCAL, start_new_session=True)  # for os.killpg
    run = tmp_path / "here" / "0"
    wait_until(lambda: newest_step(run) >= 30, process)
    return process, run, json.loads((run / "run.json").read_text())["pid"]


def places(sweep):
    """The folders of all times that jobs were handed over."""
    return sorted(path.name for path in (sweep / ".cluster").iterdir())


@pytest.mark.slow
def test_jobs_are_those_of_a_sweep_in_one_process(dltrain, shell, tmp_path):
    argv = ("train", "-m", "hydra.sweep.dir=here", "optimizer.lr=0.1,0.01,0.001", *SHORT)
    (tmp_path / "one").mkdir()
    assert dltrain(*argv, "hydra/launcher=basic", cwd=tmp_path / "one").code == 0
    outcome = shell(*argv, LOCAL)
    assert outcome.code == 0, outcome.err
    for name in ("0_lr=0.1", "1_lr=0.01", "2_lr=0.001"):
        assert_same(tmp_path / "here" / name, tmp_path / "one" / "here" / name)
        record = json.loads((tmp_path / "here" / name / "run.json").read_text())
        assert "optimizer.lr=0.1,0.01,0.001" in record["command"]
    assert not list(tmp_path.rglob("*.pkl"))
    again = shell("resume", "here")
    assert (again.code, places(tmp_path / "here")) == (0, ["1", "2"])


@pytest.mark.slow
def test_a_failure_is_told_with_its_reason_and_the_others_are_trained(shell, tmp_path):
    outcome = shell("train", "-m", "loader.batch_size=64,5000", *SHORT, LOCAL)
    assert outcome.code == 1
    assert "dltrain: error: 1_batch_size=5000: loader.batch_size is 5000" in outcome.err
    assert "Traceback" not in outcome.err
    sweep = next(tmp_path.glob("outputs/*/*_sweep"))
    assert summary_of(sweep / "0_batch_size=64")["status"] == "completed"


@pytest.mark.slow
def test_what_fails_is_tried_again_or_ends_the_sweep(shell, tmp_path):
    argv = ("train", "-m", "optimizer=sgd", "optimizer.lr=1e30,0.01", *SHORT, LOCAL, "sweep.jobs=1")
    outcome = shell(*argv, "hydra.sweep.dir=again", "sweep.on_error=retry:2")
    assert outcome.code == 1
    assert outcome.err.count("dltrain: error: 0_lr=1e+30: step ") == 3
    assert len(places(tmp_path / "again")) == 4
    outcome = shell(*argv, "hydra.sweep.dir=stop", "sweep.on_error=stop")
    assert outcome.code == 1
    assert places(tmp_path / "stop") == ["1"]


@pytest.mark.slow
def test_halving_stops_the_same_jobs_as_in_one_process(shell, tmp_path):
    argv = ("train", "-m", "hydra/sweeper=halving", "optimizer.lr=0.001,0.01,0.1", *SHORT)
    longer = [text.replace("epochs=1", "epochs=3") for text in argv]
    for launcher in ("submitit_local", "basic"):
        outcome = shell(*longer, f"hydra/launcher={launcher}", f"hydra.sweep.dir={launcher}")
        assert outcome.code == 0, outcome.err
    for name in ("0_lr=0.001", "1_lr=0.01", "2_lr=0.1"):
        runs = [tmp_path / launcher / name for launcher in ("submitit_local", "basic")]
        assert metrics(runs[0]) == metrics(runs[1])
        assert summary_of(runs[0])["status"] == summary_of(runs[1])["status"]


@pytest.mark.slow
def test_a_job_that_dies_is_a_failure_that_names_its_log(start, tmp_path):
    process, _, pid = under_way(tmp_path, start)
    os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"dltrain: error: 0: its process has ended without a result" in err
    log = Path(re.search("its output: (.*)", err.decode())[1])
    assert (tmp_path / log).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGUSR1])
def test_a_preempted_job_goes_on_to_the_same_bytes(number, shell, start, tmp_path, reference):
    expected = finished(reference, shell)
    process, run, pid = under_way(tmp_path, start)
    os.kill(pid, number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out, err)
    assert_same(run, expected)
    record = json.loads((run / "run.json").read_text())
    assert len(record["resumed"]) == 1, "it went on once"
    assert out.count(b"  done  ") == 1
    assert places(run.parent) == ["1"]


@pytest.mark.slow
def test_a_job_whose_time_is_up_for_the_last_time_is_said_to_be_cut_off(start, tmp_path):
    limits = ("hydra.launcher.timeout_min=1", "hydra.launcher.max_num_timeout=0")
    process = start(*LONG, LOCAL, *limits)
    run = tmp_path / "here" / "0"
    wait_until(lambda: newest_step(run) >= 30, process)
    os.kill(json.loads((run / "run.json").read_text())["pid"], signal.SIGUSR2)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"dltrain: error: 0: cut off at step" in err
    assert b"timed-out too many times" in err
    assert summary_of(run)["status"] == "interrupted"


@pytest.mark.slow
def test_ctrl_c_has_the_jobs_save_and_resume_goes_on(shell, start, tmp_path, reference):
    expected = finished(reference, shell)
    process, run, _ = under_way(tmp_path, start)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert b"dltrain resume here" in out
    assert summary_of(run)["status"] == "interrupted"
    outcome = shell("resume", "here")
    assert outcome.code == 0, outcome.err
    assert_same(run, expected)


@pytest.mark.slow
def test_what_only_ends_the_watcher_leaves_the_jobs_alone(shell, start, tmp_path, reference):
    expected = finished(reference, shell)
    process, run, _ = under_way(tmp_path, start)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert b"left alone: 1 job of submitit_local" in out
    wait_until(lambda: not processes_in(tmp_path))
    assert_same(run, expected)
    assert "resumed" not in json.loads((run / "run.json").read_text())
    outcome = shell("resume", "here")
    assert (outcome.code, places(run.parent)) == (0, ["1"])


@pytest.mark.slow
def test_killed_watchers_lose_nothing_and_start_nothing_twice(shell, start, tmp_path, reference):
    expected = finished(reference, shell)
    process, run, _ = under_way(tmp_path, start)
    for _ in range(2):
        process.kill()
        process.communicate()
        process = start("resume", "here", start_new_session=True)
        time.sleep(0.5)  # somewhere within its start or its watch
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out, err)
    assert_same(run, expected)
    assert "resumed" not in json.loads((run / "run.json").read_text())
    assert places(run.parent) == ["1"]


@pytest.mark.slow
def test_what_a_stranger_has_put_there_is_not_run(shell, tmp_path):
    """submitit unpickles what lies in the folder that it is given: it is always a new one."""
    argv = ("train", "-m", "hydra.sweep.dir=here", "seed=0,1", *SHORT)
    assert shell(*argv, LOCAL).code == 0
    here = tmp_path / "here"
    shutil.rmtree(here / "1_seed=1")
    shutil.rmtree(here / ".cluster")
    (tmp_path / "elsewhere").mkdir()
    (here / ".cluster").symlink_to(tmp_path / "elsewhere")
    outcome = shell("resume", "here")
    assert outcome.code == 2
    assert "dltrain: error: here/.cluster is a link" in outcome.err
    (here / ".cluster").unlink()
    (here / ".cluster" / "7").mkdir(parents=True)
    assert shell("resume", "here").code == 0
    assert places(here) == ["7", "8"]


@pytest.mark.slow
def test_a_node_sends_nothing_where_only_the_ledger_says(shell, tmp_path):
    argv = ("train", "-m", "hydra.sweep.dir=here", "seed=0", *SHORT)
    assert shell(*argv, LOCAL).code == 0
    path = tmp_path / "here" / "jobs.jsonl"
    first, *rest = path.read_text().splitlines(keepends=True)
    job = json.loads(first)
    job["job"]["config"]["loggers"]["mlflow"] = {
        "_target_": "dltrain.loggers.mlflow.MLflow", "experiment": "x", "max_images": 4,
        "tracking_uri": f"sqlite:///{tmp_path}/elsewhere.db",
    }  # fmt: skip
    path.write_text(json.dumps(job) + "\n" + "".join(rest))
    shutil.rmtree(tmp_path / "here" / "0")
    shell("resume", "here")
    texts = [file.read_text() for file in (tmp_path / "here" / ".cluster" / "2").iterdir()]
    assert any("job 0: the recorded loggers.mlflow.tracking_uri" in text for text in texts)
    assert not (tmp_path / "elsewhere.db").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timeout_min=0", "hydra.launcher.timeout_min is 0; it must be a whole number from 1"),
        ("nodes=2", "hydra.launcher.nodes is 2; it must be 1: a job is one process"),
        ("signal_delay_s=60 hydra.launcher.timeout_min=1", "it must be < hydra.launcher.timeout"),
    ],
)
def test_settings_are_checked_at_once(text, message, without_torch, tmp_path):
    words = f"hydra.launcher.{text}".split(" hydra")
    argv = [words[0], *(f"hydra{word}" for word in words[1:])]
    outcome = without_torch("train", "-m", "seed=1,2", "trainer.max_steps=1", LOCAL, *argv)
    assert outcome.code == 2
    assert message in outcome.err
    assert not outcome.torch
    assert not any(tmp_path.iterdir())
