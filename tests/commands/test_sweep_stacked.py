"""Jobs that are trained together leave what they would leave alone, and are each resumable."""

import json
import re
import shutil
import signal
import time

import pytest
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dltrain.commands.sweep_stacked import parts
from dltrain.sweeps.ledger import read_ledger

SHORT = ("trainer.max_epochs=2", "trainer.threads=1", "model.hidden_sizes=[8]")
STACKED = "hydra/launcher=stacked"
# of several seeds and settings, and one that stops before the others
VARIED = ("optimizer.lr=0.01,0.002", "seed=0,1", "task.label_smoothing=0.1", "trainer.accumulate=2")
TIMED = ("time", "samples_per_sec", "data_share")
SAMPLE = 1 / 180  # of accuracy: a sample near a tie falls on either side


def rows_of(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMED} for row in rows]


def states_of(sweep):
    return {state.state for state in read_ledger(sweep).states()}


def assert_same_run(run, alone):
    """The same rows and weights up to the order of sums, and the same kinds of files."""
    mine, theirs = rows_of(run), rows_of(alone)
    for row, other in zip(mine, theirs, strict=True):
        assert row.pop("split") == other.pop("split")
        near = {k: 1.1 * SAMPLE if k.startswith("accuracy") else 1e-3 for k in other}
        assert row == {k: pytest.approx(v, rel=1e-3, abs=near[k]) for k, v in other.items()}
    mine, theirs = (load_file(each / "model.safetensors") for each in (run, alone))
    assert mine.keys() == theirs.keys()
    for name, weights in mine.items():
        assert weights == pytest.approx(theirs[name], abs=1e-3), name
    names = [sorted(re.sub("tfevents.*", "", p.name) for p in d.rglob("*")) for d in (run, alone)]
    assert names[0] == names[1]


@pytest.fixture(scope="module")
def pair(call_dltrain, tmp_path_factory):
    """The directories of one sweep, once stacked and once one after another."""
    folder = tmp_path_factory.mktemp("pair")
    found = []
    for launcher in ("stacked", "basic"):
        argv = ("train", "-m", f"hydra.sweep.dir={launcher}", f"hydra/launcher={launcher}")
        outcome = call_dltrain([*argv, *VARIED, *SHORT, "callbacks=[default,ema]"], folder)
        assert outcome.code == 0, outcome.err
        found.append((folder / launcher, outcome))
    return found


def test_each_leaves_what_it_would_leave_alone(pair):
    (stacked, outcome), (basic, _) = pair
    assert "4 jobs" in outcome.out
    assert "alone" not in outcome.out
    runs = sorted(path.name for path in stacked.iterdir() if path.is_dir())
    assert runs == sorted(path.name for path in basic.iterdir() if path.is_dir())
    assert len(runs) == 4
    for name in runs:
        assert_same_run(stacked / name, basic / name)
        summaries = [json.loads((d / name / "summary.json").read_text()) for d in (stacked, basic)]
        assert [s["status"] for s in summaries] == ["completed"] * 2
        assert summaries[0].keys() == summaries[1].keys()
        records = [json.loads((d / name / "run.json").read_text()) for d in (stacked, basic)]
        for key in ("data", "settings_digest", "sources", "threads", "versions", "choices"):
            assert records[0][key] == records[1][key], key
        log = (stacked / name / "train.log").read_text()
        assert log.count("dataset    ") == 1  # none of another run's


def test_curves_hyperparameters_and_pictures_are_in_each_ones_events(pair):
    for sweep, _ in pair:
        run = sweep / "0_lr=0.01,seed=0"
        events = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
        tags = events.Tags()
        assert {"loss/train", "accuracy/val", "optim/lr"} <= set(tags["scalars"])
        assert {"images/train", "confusion/test", "mistakes/test"} <= set(tags["images"])
        assert "_hparams_/session_start_info" in events.summary_metadata


def test_the_ledger_says_that_all_are_done(pair):
    for sweep, _ in pair:
        states = read_ledger(sweep).states()
        assert [state.state for state in states] == ["done"] * 4
        assert all(state.result for state in states)


def test_any_of_them_goes_on_alone(pair, dltrain, tmp_path):
    runs = []
    for sweep, _ in pair:
        shutil.copytree(sweep / "1_lr=0.01,seed=1", tmp_path / sweep.name)
        outcome = dltrain("resume", sweep.name, "trainer.max_epochs=3")
        assert outcome.code == 0, outcome.err
        assert "not bit for bit" not in outcome.out
        runs.append(tmp_path / sweep.name)
    assert rows_of(runs[0])[-1]["step"] == 60
    assert_same_run(*runs)


def test_one_that_diverges_fails_alone_and_at_once(dltrain, tmp_path):
    outcome = dltrain(
        "train", "-m", "hydra.sweep.dir=here", STACKED, *SHORT,
        "optimizer=sgd", "optimizer.lr=0.01,1e30,0.02",
    )  # fmt: skip
    assert outcome.code == 1
    assert "1_lr=1e+30: step " in outcome.err
    assert "try a smaller optimizer.lr" in outcome.err
    states = read_ledger(tmp_path / "here").states()
    assert [state.state for state in states] == ["done", "failed", "done"]
    summary = json.loads((tmp_path / "here" / "1_lr=1e+30" / "summary.json").read_text())
    assert summary["status"] == "failed"


def test_what_cannot_be_stacked_is_said_and_runs_in_the_usual_way(dltrain, tmp_path):
    outcome = dltrain(
        "train", "-m", "hydra.sweep.dir=here", STACKED, "trainer.max_epochs=1",
        "loader.batch_size=64,32", "trainer.threads=1",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "alone      0_batch_size=64, 1_batch_size=32: no other job" in outcome.out
    assert [s.state for s in read_ledger(tmp_path / "here").states()] == ["done"] * 2


def test_a_mistake_that_all_share_is_told_of_each(dltrain, tmp_path):
    (tmp_path / "init").mkdir()
    outcome = dltrain(
        "train", "-m", "hydra.sweep.dir=here", STACKED, *SHORT, "seed=0,1", "init_from=init"
    )
    assert outcome.code == 1
    assert outcome.err.count("init_from: the folder init holds no model.safetensors") == 2
    assert [s.state for s in read_ledger(tmp_path / "here").states()] == ["failed"] * 2
    assert not (tmp_path / "here" / "0_seed=0").exists()


def test_on_error_stop_stops_the_others_with_a_checkpoint(dltrain, tmp_path):
    outcome = dltrain(
        "train", "-m", "hydra.sweep.dir=here", STACKED, *SHORT,
        "optimizer=sgd", "optimizer.lr=0.01,1e30", "sweep.on_error=stop",
    )  # fmt: skip
    assert outcome.code == 1
    states = read_ledger(tmp_path / "here").states()
    assert [state.state for state in states] == ["pending", "failed"]


def test_a_sweeper_stops_them_on_their_way(dltrain, tmp_path):
    states = {}
    for launcher in ("stacked", "basic"):
        outcome = dltrain(
            "train", "-m", f"hydra.sweep.dir={launcher}", f"hydra/launcher={launcher}",
            "hydra/sweeper=halving", *SHORT, "optimizer.lr=0.0001,0.001,0.02", "seed=1",
            "sweep.halving.first=1 epoch", "sweep.halving.eta=2",
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
        found = read_ledger(tmp_path / launcher).states()
        states[launcher] = [(state.state, state.step) for state in found]
    assert ("pruned", 20) in states["stacked"]
    assert ("done", 40) in states["stacked"]
    assert states["stacked"] == states["basic"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_resumed_it_ends_as_one_that_never_was(number, start, dltrain, tmp_path):
    argv = ("train", "-m", "hydra.sweep.dir=here", STACKED, *VARIED, "callbacks=[default,ema]",
            "trainer.max_epochs=12", "trainer.threads=1", "model.hidden_sizes=[8]")  # fmt: skip
    process = start(*argv)
    run = tmp_path / "here" / "3_lr=0.002,seed=1"
    deadline = time.monotonic() + 60
    while not list(run.glob("checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    deadline = time.monotonic() + 60  # what the kernel kills with its parent takes a moment to go
    while (found := states_of(tmp_path / "here")) & {"running"} and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "pending" in found
    outcome = dltrain("resume", "here")
    assert outcome.code == 0, outcome.err
    dltrain(*("there" if a == "here" else a.replace("=here", "=there") for a in argv))
    assert [s.state for s in read_ledger(tmp_path / "here").states()] == ["done"] * 4
    for each in sorted((tmp_path / "there").glob("*_lr*")):
        mine, theirs = rows_of(tmp_path / "here" / each.name), rows_of(each)
        assert [r["step"] for r in mine] == [r["step"] for r in theirs]
        assert mine[-1]["loss"] == pytest.approx(theirs[-1]["loss"], rel=0.02)


# ---------------------------------------------------------------------- processes, and their ends

MODELS = """
import os, signal
from pathlib import Path
from torch import nn

class Own(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.layer, self.what = nn.Linear(64, 10), what

    def forward(self, x):
        if self.training and Path("now").exists():
            if self.what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("as it happens")
        return self.layer(x.flatten(1))
"""


@pytest.fixture
def own_model(tmp_path):
    (tmp_path / "own_models.py").write_text(MODELS)
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "own.yaml").write_text("{_target_: own_models.Own, what: x}\n")
    (tmp_path / "now").touch()
    return ("train", "-m", "hydra.sweep.dir=here", STACKED, "--allow-target", "own_models",
            "--config-dir=mine", "model=own", *SHORT[:2])  # fmt: skip


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("kill", "was killed by SIGKILL"),
        pytest.param("raise", "as it happens", marks=pytest.mark.slow),
    ],
)
def test_what_ends_a_stack_is_the_failure_of_its_jobs(own_model, what, reason, dltrain, tmp_path):
    outcome = dltrain(*own_model, f"model.what={what}", "seed=0,1")
    assert outcome.code == 1
    states = read_ledger(tmp_path / "here").states()
    assert [state.state for state in states] == ["failed"] * 2
    assert all(reason in state.reason for state in states)
    assert ("its process" in outcome.err) is (what == "kill")
    (tmp_path / "now").unlink()
    assert dltrain("resume", "here", "--allow-target", "own_models").code == 0
    assert [s.state for s in read_ledger(tmp_path / "here").states()] == ["done"] * 2


def test_a_group_is_cut_into_as_many_processes_as_run_at_once(dltrain, tmp_path):
    outcome = dltrain(
        "train", "-m", "hydra.sweep.dir=here", "sweep.jobs=2", STACKED,
        "trainer.max_epochs=1", "trainer.threads=1", "model.hidden_sizes=[8]", "sweep.repeat=8",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    pids = [json.loads(path.read_text())["pid"] for path in tmp_path.glob("here/*/run.json")]
    assert [pids.count(pid) for pid in set(pids)] == [4, 4]


@pytest.mark.parametrize(
    ("num_jobs", "count", "lengths"),
    [(16, 2, [8, 8]), (7, 2, [7]), (9, 4, [4, 5]), (2, 1, [2]), (64, 3, [21, 21, 22])],
)  # fmt: skip
def test_parts_are_whole_alike_and_not_too_small(num_jobs, count, lengths):
    found = parts(list(range(num_jobs)), count)
    assert [len(part) for part in found] == lengths
    assert [job for part in found for job in part] == list(range(num_jobs))


@pytest.mark.slow
def test_a_job_that_failed_in_a_stack_is_tried_again(dltrain, tmp_path):
    outcome = dltrain(
        "train", "-m", "hydra.sweep.dir=here", STACKED, *SHORT, "sweep.on_error=retry:1",
        "optimizer=sgd", "optimizer.lr=0.01,1e30",
    )  # fmt: skip
    assert outcome.code == 1
    ledger = read_ledger(tmp_path / "here")
    events = [[event["state"] for event in ledger.events[number]] for number in (0, 1)]
    assert events == [["running", "done"], ["running", "failed"] * 2]


def test_ctrl_c_while_a_stack_is_opened_trains_none_to_its_end(start, tmp_path):
    process = start(
        "train", "-m", "hydra.sweep.dir=here", STACKED, "trainer.max_epochs=1000000",
        "sweep.jobs=1", "trainer.threads=1", "model.hidden_sizes=[8]", "sweep.repeat=30",
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("here/04_*")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert {s.state for s in read_ledger(tmp_path / "here").states()} == {"pending"}
