"""What stops a run: to the process or its group, from its first line on, it saves and says so."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from run_reader import assert_same, newest_step, summary_of, wait_for_step

from dltrain.commands.signals import Signals

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGUSR2: 143}
ARGUMENTS = (
    "train", "model=cnn", "model.widths=[4,8]", "model.dropout=0.2", "augmentation=crop_flip",
    "trainer.max_epochs=40", "trainer.log_every=7steps", "trainer.eval_every=15steps",
    "trainer.threads=1", "trainer.device=cpu", "hydra.run.dir=run",
)  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Of the run that nobody stopped; made once, by the first test that wants it."""
    return tmp_path_factory.mktemp("reference")


def finished_reference(reference, shell):
    if not (reference / "run").exists():
        outcome = shell(*ARGUMENTS, cwd=reference)
        assert outcome.code == 0, outcome.err
    return reference / "run"


def send(process, number, to_group):
    if to_group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)


def in_session(folder):
    """Every process whose current folder is `folder`: the run and its workers, dead or alive."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "cwd") == str(folder):
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def stopped(process, number, folder, limit_sec=60):
    """What the run printed, once it has ended as it should; how long that took is not judged."""
    out, err = (text.decode() for text in process.communicate(timeout=limit_sec))
    assert process.returncode == CODES[number], (process.returncode, out, err)
    assert "Traceback" not in err, err
    assert in_session(folder) == [], "orphans"
    return out, err


@pytest.mark.parametrize(
    ("num_workers", "to_group"),
    [
        pytest.param(2, True, id="group-2"),
        *(
            pytest.param(n, g, id=f"{'group' if g else 'process'}-{n}", marks=pytest.mark.slow)
            for n, g in ((0, False), (0, True), (2, False))
        ),
    ],
)
def test_a_signal_saves_and_the_run_goes_on(
    num_workers, to_group, start, shell, reference, tmp_path
):
    number = random.choice(list(CODES))
    print(number)  # shown where this fails
    workers = f"loader.num_workers={num_workers}"
    process = start(*ARGUMENTS, workers, start_new_session=True)
    assert wait_for_step(process, tmp_path / "run", 40), process.communicate()
    send(process, number, to_group)
    out, err = stopped(process, number, tmp_path)
    assert err == ""
    assert out.splitlines()[-1].strip() == "dltrain resume run"
    summary = summary_of(tmp_path / "run")
    assert (summary["status"], summary["step"]) == ("interrupted", newest_step(tmp_path / "run"))
    assert shell("resume", "run", "loader.num_workers=1").code == 0
    assert_same(tmp_path / "run", finished_reference(reference, shell))


def test_before_anything_is_imported_it_ends_with_the_same_code(start, tmp_path):
    """From the first line on: before Hydra, before torch, while the model is built."""
    for number in CODES:
        process = start(*ARGUMENTS, start_new_session=True)
        wait_until_it_listens(process)
        time.sleep(random.uniform(0.0, 1.5))
        send(process, number, to_group=True)
        out, err = stopped(process, number, tmp_path)
        assert (tmp_path / "run" / "summary.json").exists() or "nothing was changed" in err, out


def wait_until_it_listens(process):
    """Until Python has started: nobody can answer a signal before."""
    while process.poll() is None and signals_that_are("SigCgt", process.pid) != set(CODES):
        time.sleep(0.001)


def signals_that_are(what, pid):
    """`SigIgn`, ignored, or `SigCgt`, caught, by a process (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    bits = next(int(line.split()[1], 16) for line in lines if line.startswith(what))
    return {number for number in CODES if bits >> (number - 1) & 1}


def test_workers_ignore_them_all(start, tmp_path):
    process = start(*ARGUMENTS, "loader.num_workers=2")
    assert wait_for_step(process, tmp_path / "run", 20), process.communicate()
    workers = [pid for pid in in_session(tmp_path) if pid != process.pid]
    assert len(workers) >= 2
    assert all(signals_that_are("SigIgn", pid) == set(CODES) for pid in workers)
    process.kill()


@pytest.mark.parametrize("which", ["a worker"])
def test_a_killed_worker_is_an_error_and_the_run_goes_on_from_its_checkpoint(
    which, start, shell, reference, tmp_path
):
    process = start(*ARGUMENTS, "loader.num_workers=2", "checkpoint.every=10steps")
    assert wait_for_step(process, tmp_path / "run", 20), process.communicate()
    worker = max(pid for pid in in_session(tmp_path) if pid != process.pid)
    os.kill(worker, signal.SIGKILL)
    out, err = (text.decode() for text in process.communicate(timeout=60))
    assert process.returncode == 1, (out, err)
    assert err.startswith("dltrain: error: data worker "), err
    assert f"(pid {worker}) " in err
    assert "was killed by SIGKILL" in err
    assert "the last good checkpoint is that of step" in err
    assert in_session(tmp_path) == [], "orphans"
    assert summary_of(tmp_path / "run")["status"] == "failed"
    assert shell("resume", "run", "loader.num_workers=0", "checkpoint.every=1epoch").code == 0
    weights = [
        (folder / "model.safetensors").read_bytes()
        for folder in (tmp_path / "run", finished_reference(reference, shell))
    ]
    assert weights[0] == weights[1]


def test_an_evaluation_is_abandoned_and_done_again(start, shell, tmp_path):
    """One that takes longer than anybody waits: the signal comes in the middle of it."""
    slow = (
        "train", "dataset=synthetic", "dataset.num_samples=64", "dataset.num_val=60000",
        "dataset.num_test=0", "model=resnet20", "loader.batch_size=32", "trainer.max_steps=2",
        "loader.eval_batch_size=8", "trainer.eval_every=1steps", "trainer.log_every=1steps",
        "trainer.threads=1", "hydra.run.dir=run",
    )  # fmt: skip
    process = start(*slow)
    deadline = time.monotonic() + 100
    while not (tmp_path / "run" / "metrics.jsonl").exists() or not rows(tmp_path / "run"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    out, _ = stopped(process, signal.SIGTERM, tmp_path)
    assert "dltrain resume run" in out
    assert [row["split"] for row in rows(tmp_path / "run")] == ["train"]
    assert summary_of(tmp_path / "run")["step"] == newest_step(tmp_path / "run") == 1
    evaluated = shell("resume", "run", "dataset.num_val=60", "trainer.max_steps=1")
    assert evaluated.code == 0, evaluated.err
    assert [row["split"] for row in rows(tmp_path / "run")][:2] == ["train", "val"]


def rows(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once_and_loses_nothing_saved(start, shell, tmp_path):
    process = start(*ARGUMENTS, "checkpoint.every=1steps")
    assert wait_for_step(process, tmp_path / "run", 10), process.communicate()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert shell("resume", "run", "trainer.max_epochs=1").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_signals_at_any_moment(seed, start, shell, reference, tmp_path):
    """Three in a row in one run, each of any kind, at any time, to the process or its group."""
    moments = random.Random(seed)
    for _ in range(3):
        going_on = (tmp_path / "run" / "config.yaml").is_file()
        argv = ("resume", "run") if going_on else ARGUMENTS
        process = start(
            *argv, f"loader.num_workers={moments.choice((0, 2))}", start_new_session=True
        )
        wait_until_it_listens(process)
        time.sleep(moments.uniform(0.0, 5.0))
        number = moments.choice(list(CODES))
        if process.poll() is None:
            send(process, number, to_group=moments.random() < 0.5)
        process.communicate(timeout=60)
        assert process.returncode in (0, CODES[number])
        assert in_session(tmp_path) == []
    going_on = (tmp_path / "run" / "config.yaml").is_file()
    assert shell(*(("resume", "run") if going_on else ARGUMENTS)).code == 0
    assert_same(tmp_path / "run", finished_reference(reference, shell))


def test_a_signal_within_an_import_is_answered_after_it():
    signals = Signals()
    reached = []

    def import_something():
        with signals.waiting():
            signals.handle(signal.SIGTERM, None)
            reached.append(True)

    with pytest.raises(SystemExit) as caught:
        import_something()
    assert reached
    assert caught.value.code == 143
