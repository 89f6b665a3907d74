"""The local launcher: jobs in processes of their own, stopped, killed, judged and gone on with."""

import contextlib
import json
import os
import pty
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from dltrain.claim import Claim
from dltrain.commands.local_run import LocalRun, Unit
from dltrain.commands.signals import Signals
from dltrain.commands.sweep_asked import asked_of
from dltrain.commands.sweep_local import at_once, run_jobs
from dltrain.commands.sweep_task import SweepTask
from dltrain.config import compose as composing
from dltrain.sweeps.ledger import Ledger, read_ledger
from dltrain.sweeps.live import Screen
from dltrain.sweeps.pool import Pool
from dltrain.sweeps.slots import Slots
from dltrain.sweeps.starters import CAN_FORK, make_starter
from dltrain.sweeps.warm import ENTRY, MODULES, modules_of

SHORT = ("trainer.max_epochs=2", "trainer.threads=1", "model.hidden_sizes=[8]")
ALLOWED = ("--allow-target", "own_callbacks")
# Whatever it does, it does it where a file says so, at the first evaluation
CALLBACKS = """
import os, signal, time
from pathlib import Path
from dltrain.engine.callback import Callback

class Does(Callback):
    def __init__(self, what):
        self.what = what

    def on_evaluate(self, trainer, split, metrics):
        print("not for the screen", flush=True)
        if not Path("now").exists():
            return
        trainer.saver.wait()
        if self.what == "kill" and trainer.step > 20:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "raise":
            raise RuntimeError("once is enough")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own_callbacks.py").write_text(CALLBACKS)
    config = tmp_path / "mine" / "callbacks"
    config.mkdir(parents=True)
    text = "does: {_target_: own_callbacks.Does, what: nothing}\n"
    (config / "does.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def weights(run):
    return (run / "model.safetensors").read_bytes()


def status(run):
    return json.loads((run / "summary.json").read_text())["status"]


# ---------------------------------------------------------------------- as its users meet it


def test_a_job_is_to_the_bit_the_run_that_it_would_be_alone(dltrain, folder):
    argv = ("train", "seed=1", "optimizer.lr=0.01", "model.dropout=0.3", *SHORT)
    assert dltrain(*argv, "hydra.run.dir=alone").code == 0
    sweep = ("train", "-m", "hydra.sweep.dir=here", "seed=0,1,2", *argv[2:])
    outcome = dltrain(*sweep)
    assert outcome.code == 0, outcome.err
    assert weights(folder / "here" / "1_seed=1") == weights(folder / "alone")
    record = json.loads((folder / "here" / "1_seed=1" / "run.json").read_text())
    assert record["command"].startswith("dltrain train -m hydra.sweep.dir=here seed=0,1,2 ")
    pids = {json.loads(path.read_text())["pid"] for path in folder.glob("here/*/run.json")}
    assert len(pids) == 3
    assert os.getpid() not in pids
    begun, ended = (
        [line for line in outcome.out.splitlines() if f"  {word}" in line and line[:3] == "job"]
        for word in ("begins", "done")
    )
    assert sorted(begun) == [f"job {n}  seed={n}  begins" for n in range(3)]
    assert len(ended) == 3
    for number, line in enumerate(ended, 1):
        assert re.search(rf"accuracy/val .*%  0:\d\d  {number} of 3 are over$", line)
    assert outcome.out.splitlines()[-1] == "sweep: here"
    assert "epoch" not in outcome.out


def test_what_fails_is_told_with_its_reason_and_the_others_run(dltrain, folder):
    (folder / "now").touch()
    argv = ("train", "-m", "hydra.sweep.dir=here", "--config-dir=mine", "callbacks=[default,does]",
            *ALLOWED, *SHORT)  # fmt: skip
    what = "callbacks.does.what=nothing,kill,raise"
    outcome = dltrain(*argv, what, "loader.batch_size=64,5000")
    assert outcome.code == 1
    assert "not for the screen" not in outcome.out + outcome.err
    errors = outcome.err.replace("\n  ", " ").splitlines()
    found = {line.split(": ")[2]: line for line in errors}
    killed = found["2_what=kill,batch_size=64"]
    assert "was killed by SIGKILL if memory ran out, fewer jobs" in killed
    assert "its log: here/2_what=kill,batch_size=64/train.log" in killed
    raised = found["4_what=raise,batch_size=64"]
    assert "RuntimeError: once is enough" in raised
    assert "the traceback is in here/4_what=raise,batch_size=64/train.log" in raised
    assert "5000" in found["1_what=nothing,batch_size=5000"]
    assert not (folder / "here" / "1_what=nothing,batch_size=5000").exists()
    states = [state.state for state in read_ledger(folder / "here").states()]
    assert states == ["done", *["failed"] * 5]
    assert outcome.out.splitlines()[-1] == "here: 5 failed"


@pytest.mark.slow
def test_a_job_that_was_killed_goes_on_from_its_checkpoint(dltrain, folder):
    (folder / "now").touch()
    argv = ("--config-dir=mine", "callbacks=[default,does]", "callbacks.does.what=kill", *ALLOWED,
            "trainer.max_epochs=3", "trainer.threads=1", "model.hidden_sizes=[8]")  # fmt: skip
    sweep = ("train", "-m", "hydra.sweep.dir=here", "seed=1,2")
    assert dltrain(*sweep, *argv).code == 1
    job = folder / "here" / "0_seed=1"
    assert status(job) == "running"
    (folder / "now").unlink()
    outcome = dltrain("resume", "here", *ALLOWED)
    assert outcome.code == 0, outcome.err
    assert "going on   from step 20" in (job / "train.log").read_text()
    assert dltrain("train", "seed=1", "hydra.run.dir=alone", *argv).code == 0
    assert weights(job) == weights(folder / "alone")


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_stops_what_runs_in_order_and_it_goes_on(number, start, dltrain, folder):
    argv = ("seed=0,1,2,3,4,5,6,7", "trainer.max_epochs=40", "trainer.threads=1",
            "model.hidden_sizes=[8]", "loggers=none")  # fmt: skip
    process = start("train", "-m", "hydra.sweep.dir=here", *argv)
    here = folder / "here"
    wait_for(process, lambda: list(here.glob("*/checkpoints/step-*")))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 143), err
    text = out.decode()
    assert f"{number.name}: " in text
    assert "jobs are over. To go on:\n  dltrain resume here\n" in text
    begun = sorted(here.glob("*/"))
    assert len(begun) < 8
    states = [status(run) for run in begun if (run / "summary.json").exists()]
    assert "interrupted" in states
    assert set(states) <= {"interrupted", "completed"}
    assert not is_anybody_in(folder)


def wait_for(process, found):
    deadline = time.monotonic() + 60
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not CAN_FORK, reason="no /proc")
@pytest.mark.parametrize("kill", ["at once", "by a second Ctrl-C"])
def test_nothing_is_left_of_a_sweep_that_was_killed(kill, start, folder):
    argv = ("seed=0,1,2", "trainer.max_epochs=100000", "trainer.threads=1", "loggers=none",
            "model.hidden_sizes=[8]")  # fmt: skip
    process = start("train", "-m", "hydra.sweep.dir=here", *argv)
    here = folder / "here"
    wait_for(process, lambda: list(here.glob("*/checkpoints/step-*")))
    if kill == "at once":
        process.kill()
    else:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGKILL, 130)
    deadline = time.monotonic() + 60
    while is_anybody_in(folder):
        assert time.monotonic() < deadline, "somebody is left"
        time.sleep(0.01)
    assert read_ledger(here).left()


def is_anybody_in(folder):
    """Whether a process has `folder` as its current one."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has just ended
            found += [name] if os.readlink(f"/proc/{name}/cwd") == str(folder) else []
    return bool({int(name) for name in found} - {os.getpid()})


# ---------------------------------------------------------------------- as other launchers use it


@pytest.fixture(scope="module")
def pool():
    """Warm from one test to the next, as from one batch of jobs to the next."""
    with Pool(make_starter(ENTRY, MODULES)) as found:
        yield found


@pytest.fixture
def task(folder, pool):
    """A function: a sweep over learning rates, with settings of its own; closed at the end."""
    made = []

    def make(rates, *overrides, **settings):
        keys = {text.partition("=")[0] for text in overrides}
        usual = [text for text in (*SHORT, "loggers=none") if text.partition("=")[0] not in keys]
        overrides = [*usual, *overrides]
        cfg = composing.compose(overrides)
        claim = Claim(folder / "here").__enter__()
        sweep = SweepTask(
            folder=folder / "here",
            claim=claim,
            ledger=Ledger(folder / "here"),
            allowed=["own_callbacks"],
            signals=Signals(),
            fixed={text.partition("=")[0] for text in overrides},
            config={},
            settings={"jobs": 2, "on_error": "continue", **settings},
            asked=asked_of(["dltrain"], [], [], cfg),
            argv=["dltrain"],
            pool=pool,
        )
        sweep.compose(range(len(rates)), [[*overrides, f"optimizer.lr={rate}"] for rate in rates])
        made.append(sweep)
        return sweep

    yield make
    for sweep in made:
        sweep.claim.release()


def all_jobs(task):
    return list(task.ledger.jobs.values())


def states_of(task):
    return [state.state for state in task.ledger.states()]


def test_the_judge_stops_whom_it_judges_and_nobody_else(task, folder):
    sweep, asked = task([0.1, 0.01, 0.001]), []

    def judge(job, event):
        asked.append((job.number, event["step"]))
        assert event["num_steps"] == 40
        return "it is the second" if job.number == 1 and event["step"] == 20 else None

    outcomes = run_jobs(sweep, all_jobs(sweep), judge=judge)
    assert sorted(asked) == [(0, 20), (0, 40), (1, 20), (2, 20), (2, 40)]
    assert states_of(sweep) == ["done", "pruned", "done"]
    assert outcomes[1].stopped
    assert outcomes[1].reason == "it is the second"
    run = folder / "here" / "1_lr=0.01"
    assert status(run) == "stopped"
    assert [path.name for path in (run / "checkpoints").glob("step-*")] == ["step-00000020"]


def test_an_error_of_the_judge_is_what_it_is(task, monkeypatch):
    """And not that of a sweep which has lost the process that starts its jobs."""
    from dltrain.errors import UserError

    def judge(job, event):
        raise UserError("its metrics cannot be read")

    sweep = task([0.1])
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "sweeps"))
    with (
        Pool(make_starter("entries:evaluates", [])) as pool,
        pytest.raises(UserError, match=r"^its metrics cannot be read$"),
    ):
        LocalRun(sweep, pool, Slots(1, 1, []), Screen(1, 0, 1), judge=judge, stop_at=None).run(
            [Unit(all_jobs(sweep))]
        )


@pytest.mark.parametrize(("device", "expected"), [("auto", 2), ("cpu", 8)])
def test_gpus_count_where_jobs_use_them(device, expected, task, monkeypatch):
    monkeypatch.setattr("dltrain.commands.sweep_local.GPU_DEVICES", ["null"])
    monkeypatch.setattr("dltrain.cores.given", lambda: 8)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "sweeps"))
    sweep = task([0.1], f"trainer.device={device}", jobs="auto")
    (like,) = all_jobs(sweep)
    sweep.ledger.jobs.clear()  # of a search, before its first trial
    sweep.num_jobs = 100
    with Pool(make_starter("entries:two_gpus", [])) as sweep.pool:
        assert at_once(sweep, like) == expected


def test_all_stop_at_a_step_and_go_on_as_though_they_had_not(task, dltrain, folder):
    sweep = task([0.1, 0.01])
    for step in (10, 30):
        run_jobs(sweep, all_jobs(sweep), stop_at=step)
        assert [state.step for state in sweep.ledger.states()] == [step, step]
        assert states_of(sweep) == ["pending"] * 2
    outcomes = run_jobs(sweep, all_jobs(sweep))
    assert states_of(sweep) == ["done"] * 2
    assert dltrain("train", "optimizer.lr=0.1", *SHORT, "hydra.run.dir=alone").code == 0
    assert weights(folder / "here" / "0_lr=0.1") == weights(folder / "alone")
    best = json.loads((folder / "alone" / "summary.json").read_text())["best"]
    assert outcomes[0].result == best["value"]


def test_on_error_stop_begins_no_other_and_lets_what_runs_save(task, folder, capsys):
    sweep = task(["1e38", 0.01, 0.1, 0.2], "optimizer=sgd", "trainer.max_epochs=100000",
                 on_error="stop")  # fmt: skip
    run_jobs(sweep, all_jobs(sweep))
    assert states_of(sweep) == ["failed", "pending", "pending", "pending"]
    assert status(folder / "here" / "1_lr=0.01") == "interrupted"
    assert not (folder / "here" / "2_lr=0.1").exists()
    assert sweep.exit_code == 1
    assert "sweep.on_error=stop: 1 running job saves and stops" in capsys.readouterr().out


def test_on_error_stop_ends_where_nothing_runs_any_more(task):
    sweep = task(["1e38", 0.01, 0.1], "optimizer=sgd", on_error="stop", jobs=1)
    run_jobs(sweep, all_jobs(sweep))
    assert states_of(sweep) == ["failed", "pending", "pending"]


def test_on_error_retry_tries_again_so_many_times(task, folder, capsys):
    sweep = task(["1e38"], "optimizer=sgd", on_error="retry:2")
    run_jobs(sweep, all_jobs(sweep))
    out = capsys.readouterr().out
    assert "failed, try 1 of 3" in out
    assert "1 of 1 are over" in out
    assert "2 of 1" not in out
    events = [event["state"] for event in sweep.ledger.events[0]]
    assert events == ["running", "failed"] * 3


def test_a_mistake_in_the_settings_is_not_tried_again(task):
    sweep = task([0.1], "loader.batch_size=5000", on_error="retry:2")
    run_jobs(sweep, all_jobs(sweep))
    assert [event["state"] for event in sweep.ledger.events[0]] == ["running", "failed"]


def test_a_signal_that_came_before_begins_nothing(task):
    sweep = task([0.1, 0.01])
    sweep.signals.on_stop = lambda number: None
    sweep.signals.handle(signal.SIGTERM, None)
    run_jobs(sweep, all_jobs(sweep))
    assert states_of(sweep) == ["pending"] * 2


@pytest.mark.slow
@pytest.mark.skipif(not CAN_FORK, reason="every job imports what it needs")
def test_a_warm_job_imports_nothing_that_the_next_would_again(task, folder, monkeypatch):
    sweep = task([0.1], "loggers=[tensorboard]")
    (job,) = all_jobs(sweep)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "sweeps"))
    with Pool(make_starter("entries:warm", [*MODULES, *modules_of(job)])) as pool:
        LocalRun(sweep, pool, Slots(1, 1, []), Screen(1, 0, 1), judge=None, stop_at=None).run(
            [Unit([job])]
        )
    assert states_of(sweep) == ["done"]
    imported = json.loads((folder / "imported.json").read_text())
    heavy = (
        "torch",
        "dltrain",
        "tensorboard",
        "google",
        "numpy",
        "hydra",
        "omegaconf",
        "safetensors",
    )
    assert not [name for name in imported if name.partition(".")[0] in heavy]


@pytest.mark.slow
def test_a_terminal_shows_a_table_and_every_failure_once(start, folder):
    ours, theirs = pty.openpty()
    process = start("train", "-m", "optimizer=sgd", "optimizer.lr=0.1,1e38", *SHORT,
                    env={"TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
                    stdout=theirs, stderr=theirs)  # fmt: skip
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    assert process.wait() == 1
    text = shown.decode()
    assert re.search(r"  0  lr=0.1    [━─]{20}  .*[0-9]%", text)
    assert re.search(r"1 running, 0 to go|2 running, 0 to go", text)
    assert text.count("dltrain: error: 1_lr=1e+38: step 2: the loss is nan") == 1
    assert "train.log\r\n" in text, "a path is not broken by the width of the terminal"
    assert "job  lr     accuracy/val  at step  time   state" in text
    assert "\x1b[?25h" in text, "the cursor is back"


def test_one_at_a_time(task):
    sweep = task([0.1, 0.01, 0.001], "trainer.max_epochs=1", jobs=1)
    run_jobs(sweep, all_jobs(sweep))
    lines = (sweep.folder / "jobs.jsonl").read_text().splitlines()
    events = [
        (line["number"], line["state"]) for line in map(json.loads, lines) if "job" not in line
    ]
    assert events == [(n, state) for n in range(3) for state in ("running", "done")]


def test_what_a_job_may_use_is_set_before_it_uses_anything(monkeypatch):
    import torch

    from dltrain import cores
    from dltrain.commands.sweep_child import prepare

    monkeypatch.setattr(cores, "_share", None)
    monkeypatch.setattr(cores, "given", lambda: 8)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        prepare({"gpu": None, "share": 3, "argv": ["dltrain", "train", "-m"]})
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2"
        assert (torch.get_num_threads(), cores.available()) == (3, 3)
        assert sys.argv == ["dltrain", "train", "-m"]
        prepare({"gpu": "2", "share": 8, "argv": []})
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
