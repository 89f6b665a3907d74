"""`hydra/sweeper=halving`: all train a little, the best go on; what was cut off is not lost."""

import json
import shutil

import pytest

from dltrain.errors import UserError

ARGV = ("train", "-m", "hydra/sweeper=halving", "hydra/launcher=basic", "hydra.sweep.dir=here",
        "model.hidden_sizes=[8]", "optimizer.lr=0.0001,0.001,0.01,0.1,1", "trainer.max_epochs=5",
        "sweep.halving.eta=2", "trainer.threads=1", "loggers=none")  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory, call_dltrain):
    """A sweep of five jobs: five epochs of one, two of another, one of the rest."""
    folder = tmp_path_factory.mktemp("halving")
    return folder / "here", call_dltrain(ARGV, folder)


@pytest.fixture
def here(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "here")
    return tmp_path / "here"


def summaries(sweep):
    return [
        json.loads((run / "summary.json").read_text())
        for run in sorted(sweep.iterdir())
        if (run / "summary.json").exists()
    ]


def ends(sweep):
    """Of each job: status, epochs and the best value."""
    return [(each["status"], each["epoch"], each["best"]["value"]) for each in summaries(sweep)]


def decisions(sweep):
    return json.loads((sweep / "halving.json").read_text())["rungs"]


def states(sweep):
    from dltrain.sweeps.ledger import read_ledger

    return [state.state for state in read_ledger(sweep).states()]


def test_the_best_go_on_and_the_others_are_pruned_with_their_checkpoints(finished):
    sweep, outcome = finished
    assert outcome.code == 0, outcome.err
    first, second = decisions(sweep)
    assert (first["after"], second["after"]) == ("1 epoch", "2 epochs")
    by_value = sorted(range(5), key=lambda job: (-first["values"][str(job)], job))
    assert first["go_on"] == sorted(by_value[:2])
    (winner,) = second["go_on"]
    epochs = [5 if job == winner else 2 if job in first["go_on"] else 1 for job in range(5)]
    assert [each["epoch"] for each in summaries(sweep)] == epochs
    assert states(sweep) == ["done" if job == winner else "pruned" for job in range(5)]
    for run, summary in zip(sorted(sweep.glob("[0-9]*")), summaries(sweep), strict=True):
        steps = [int(each.name.partition("-")[2]) for each in run.glob("checkpoints/*")]
        assert max(steps) == summary["step"]
    assert "after 1 epoch the best 2 go on" in outcome.out


def test_the_winner_is_what_it_would_be_alone(finished, dltrain, tmp_path):
    """The schedule sees the whole budget: it was stopped twice, and nobody can tell."""
    sweep, _ = finished
    (winner,) = decisions(sweep)[-1]["go_on"]
    run = sorted(sweep.glob("[0-9]*"))[winner]
    lr = json.loads((sweep / "jobs.jsonl").read_text().splitlines()[winner])["job"]["swept"]
    argv = [
        text for text in ARGV[2:] if "/" not in text and "sweep" not in text and "lr" not in text
    ]
    alone = dltrain("train", *argv, f"optimizer.lr={lr['optimizer.lr']}", "hydra.run.dir=alone")
    assert alone.code == 0, alone.err
    weights = [path / "model.safetensors" for path in (run, tmp_path / "alone")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("how", ["resume", "again"])
def test_of_a_finished_one_nothing_is_left(how, dltrain, here):
    files = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    outcome = dltrain("resume", "here") if how == "resume" else dltrain(*ARGV)
    assert outcome.code == 0, outcome.err
    runs = [path for path in files if path.parent != here]
    assert {path: path.read_bytes() for path in runs} == {path: files[path] for path in runs}


def test_decisions_follow_from_the_curves_alone(dltrain, here):
    """Their record is lost, and all that the longer runs have done since is there."""
    made, before = decisions(here), ends(here)
    (here / "halving.json").unlink()
    assert dltrain("resume", "here").code == 0
    assert decisions(here) == made
    assert ends(here) == before


def test_cut_off_in_a_rung_it_ends_the_same(dltrain, here):
    """As after a kill in the second rung: one job of it is back at its first epoch, the winner has
    gone on for too long, one of the first rung never began."""
    made, before = decisions(here), ends(here)
    runs = sorted(here.glob("[0-9]*"))
    second = next(job for job in made[0]["go_on"] if job not in made[1]["go_on"])
    summary = summaries(here)[second] | {"status": "running", "step": 20, "checkpoint": 20}
    (runs[second] / "summary.json").write_text(json.dumps(summary))
    shutil.rmtree(runs[second] / "checkpoints" / "step-00000040")
    shutil.rmtree(next(run for job, run in enumerate(runs) if job not in made[0]["go_on"]))
    (here / "halving.json").unlink()
    outcome = dltrain("resume", "here")
    assert outcome.code == 0, outcome.err
    assert decisions(here) == made
    assert ends(here) == before
    assert outcome.out.count("going on   from") == 2  # once to the rung where it was, once on


def test_a_pruned_run_can_be_continued_by_itself(dltrain, here):
    job = states(here).index("pruned")
    run = sorted(here.glob("[0-9]*"))[job]
    outcome = dltrain("resume", f"here/{run.name}")
    assert outcome.code == 0, outcome.err
    assert summaries(here)[job]["status"] == "completed"
    assert states(here)[job] == "done"


def test_a_job_that_fails_is_not_among_the_best(dltrain, tmp_path):
    argv = [text for text in ARGV if "optimizer.lr" not in text]
    outcome = dltrain(*argv, "optimizer=sgd", "optimizer.lr=1e38,0.001,1")
    assert outcome.code == 1
    assert states(tmp_path / "here")[0] == "failed"
    assert decisions(tmp_path / "here")[0]["values"]["0"] is None
    assert outcome.err.count("error: 0_lr=1e+38: ") == 1


def test_a_failure_ends_it_where_that_was_asked_for_the_last_of_a_rung_too(dltrain, tmp_path):
    argv = [text for text in ARGV if "optimizer.lr" not in text]
    rates = "optimizer.lr=0.001,0.01,1e38"
    outcome = dltrain(*argv, "optimizer=sgd", rates, "sweep.on_error=stop", "seed=1")
    assert outcome.code == 1
    assert states(tmp_path / "here") == ["pending", "pending", "failed"]
    assert [each["epoch"] for each in summaries(tmp_path / "here")][:2] == [1, 1]
    assert not (tmp_path / "here" / "halving.json").exists()
    assert "To go on:" in outcome.out


def test_a_dry_run_says_the_rungs_and_writes_nothing(dltrain, tmp_path):
    outcome = dltrain(*ARGV, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "rung 1     after 1 epoch the best 2 go on" in outcome.out
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sweep.halving.eta=1", "sweep.halving.eta is 1; it must be a whole number from 2"),
        ("sweep.halving.first=0.5epochs", "sweep.halving.first is '0.5epochs'; it must be a whole"),
        ("sweep.halving.first=5%", "sweep.halving.first is '5%'; it has the unit '%'"),
        ("sweep.halving.frist=2epochs", "`sweep.halving.frist`; did you mean `first`?"),
        ("sweep.halving.first=20epochs", "first is 20epochs, and job 0 trains"),
        ("sweep.list=[{seed:1},{checkpoint.monitor:loss/val,checkpoint.mode:min}]",
         "must be the same for all, and so must checkpoint.mode; here they have accuracy/val (max) "
         "and loss/val (min)"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_sentence(text, message, dltrain, tmp_path):
    argv = [each for each in ARGV if not text.startswith(each.partition("=")[0])]
    outcome = dltrain(*argv, text)
    assert outcome.code == 2, outcome.err
    assert message in outcome.err
    assert not any(tmp_path.iterdir())


def test_jobs_that_are_compared_agree_on_what_is_better():
    from dltrain.commands.sweep_halving import agreed
    from dltrain.sweeps.ledger import JobRecord

    nodes = [{"checkpoint": {"monitor": "own", "mode": mode}} for mode in ("max", "max", "min")]
    jobs = [JobRecord(n, [], {}, str(n), node, {}, {}) for n, node in enumerate(nodes)]
    assert agreed(jobs[:2]) == ("own", "max")
    with pytest.raises(UserError, match=r"here they have own .max. and own .min."):
        agreed(jobs)


def test_a_launcher_that_cannot_stop_jobs_is_refused():
    from dltrain.commands.sweep_halving import refuse_launcher

    with pytest.raises(UserError, match="which object cannot do; take hydra/launcher=local"):
        refuse_launcher(object(), "hydra/sweeper=halving")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_digits_it_finds_the_best_of_the_grid_with_less_than_half_of_the_epochs(
    seed, dltrain, tmp_path
):
    argv = ("train", "-m", "hydra/launcher=basic", f"seed={seed}", "trainer.max_epochs=18",
            "optimizer.lr=0.0001,0.0003,0.001,0.003,0.01,0.03,0.1,0.3", "trainer.threads=1",
            "model.hidden_sizes=[32],[128,128]", "checkpoint.monitor=loss/val",
            "checkpoint.mode=min", "loggers=none")  # fmt: skip
    assert dltrain(*argv, "hydra.sweep.dir=grid").code == 0
    halving = ("hydra/sweeper=halving", "sweep.halving.first=3epochs", "hydra.sweep.dir=here")
    assert dltrain(*argv, *halving).code == 0
    grid, short = (summaries(tmp_path / name) for name in ("grid", "here"))
    best = min(range(16), key=lambda job: grid[job]["best"]["value"])
    assert [each["status"] == "completed" for each in short] == [job == best for job in range(16)]
    assert short[best]["best"] == grid[best]["best"]
    assert sum(each["epoch"] for each in short) <= sum(each["epoch"] for each in grid) / 2
