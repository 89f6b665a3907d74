"""`hydra/sweeper=optuna`: trials are jobs like any others, and a search goes on where it was."""

import json
import re
import shutil
import sys

import pytest

from dltrain.errors import UserError

SHORT = ("model.hidden_sizes=[8]", "trainer.max_epochs=2", "trainer.threads=1", "loggers=none")
LR = "optimizer.lr=tag(log,interval(1e-4,1))"
ARGV = ("train", "-m", "hydra/sweeper=optuna", "hydra/launcher=basic", "hydra.sweep.dir=here", LR,
        *SHORT)  # fmt: skip
TRIALS = 5


@pytest.fixture(scope="module")
def finished(tmp_path_factory, call_dltrain):
    """A search of five trials, the first two drawn at random."""
    pytest.importorskip("optuna", minversion="4")
    folder = tmp_path_factory.mktemp("search")
    outcome = call_dltrain(argv(trials=TRIALS), folder)
    assert outcome.code == 0, outcome.err
    return folder / "here", outcome


def argv(**settings):
    settings = {"sampler_args": "{n_startup_trials:2}", **settings}
    return [*ARGV, *(f"sweep.optuna.{key}={value}" for key, value in settings.items())]


@pytest.fixture(scope="module")
def with_pruned(tmp_path_factory, call_dltrain):
    """A search of six trials, of which the median of the first two stops some."""
    pytest.importorskip("optuna", minversion="4")
    folder = tmp_path_factory.mktemp("pruned")
    settings = {"trials": 6, "pruner": "median", "pruner_args": "{n_startup_trials:2}"}
    outcome = call_dltrain(argv(**settings), folder)
    assert outcome.code == 0, outcome.err
    return folder / "here", outcome


@pytest.fixture
def here(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def pruned(with_pruned, tmp_path):
    shutil.copytree(with_pruned[0], tmp_path / "here")
    return tmp_path / "here"


def trials(sweep):
    """Of each job what it tried, and what came out."""
    found = []
    for run in sorted(path.parent for path in sweep.glob("*/summary.json")):
        summary = json.loads((run / "summary.json").read_text())
        lr = re.search(
            r"^optimizer:\n(?:  .*\n)*?  lr: (.*)$", (run / "config.yaml").read_text(), re.M
        )
        best = summary["best"]["value"]
        found.append((run.name, float(lr[1]), summary["status"], summary["step"], best))
    return found


def states(sweep):
    from dltrain.sweeps.ledger import read_ledger

    return [state.state for state in read_ledger(sweep).states()]


def test_every_trial_is_a_job_of_its_number(finished):
    sweep, _ = finished
    assert states(sweep) == ["done"] * TRIALS
    names = [name for name, *_ in trials(sweep)]
    assert all(re.fullmatch(rf"{n}_lr=[0-9.e-]+", name) for n, name in enumerate(names))
    assert len(set(names)) == TRIALS
    rates = [
        json.loads(line)["job"]["config"]["optimizer"]["lr"]
        for line in (sweep / "jobs.jsonl").read_text().splitlines()
        if '"job"' in line
    ]
    assert all(1e-4 <= rate <= 1 for rate in rates)
    assert (sweep / "optuna.jsonl").is_file()


def test_compare_shows_a_search_as_any_sweep(finished, dltrain):
    outcome = dltrain("compare", str(finished[0]))
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[1].split()[:2] == ["run", "lr"]
    assert len([line for line in outcome.out.splitlines() if "lr=" in line]) >= TRIALS


@pytest.mark.parametrize("how", ["resume", pytest.param("again", marks=pytest.mark.slow)])
def test_it_goes_on_to_a_larger_total_as_if_that_had_been_asked_for(
    how, finished, dltrain, tmp_path, call_dltrain
):
    assert dltrain(*argv(trials=3)).code == 0
    sweep = tmp_path / "here"
    assert trials(sweep) == trials(finished[0])[:3]
    more = f"sweep.optuna.trials={TRIALS}"
    again = ("resume", "here", more) if how == "resume" else argv(trials=TRIALS)
    outcome = dltrain(*again)
    assert outcome.code == 0, outcome.err
    assert trials(sweep) == trials(finished[0])
    asked = json.loads((sweep / "sweep.json").read_text())["settings"]["optuna"]
    assert asked["trials"] == TRIALS, "or the next resume would go back to three"
    outcome = dltrain("resume", "here")
    assert (outcome.code, outcome.out.count("dataset ")) == (0, 0)


def test_a_trial_that_was_cut_off_goes_on_and_one_that_was_not_recorded_is_drawn_again(
    dltrain, here
):
    """As after a kill in the last trial, and in the one before it."""
    before = trials(here)
    last, other = (here / before[n][0] for n in (TRIALS - 1, TRIALS - 2))
    jobs = (here / "jobs.jsonl").read_text().splitlines(keepends=True)
    kept = [
        line for line in jobs
        if not re.match(rf'{{"(job": {{")?number": {TRIALS - 1},', line)
    ]  # fmt: skip
    (here / "jobs.jsonl").write_text("".join(kept))
    shutil.rmtree(last)
    journal = (here / "optuna.jsonl").read_bytes().splitlines(keepends=True)
    told = [n for n, line in enumerate(journal) if line.startswith(b'{"op_code":6,')]
    (here / "optuna.jsonl").write_bytes(
        b"".join(line for n, line in enumerate(journal) if n not in told[-2:])
    )
    summary = json.loads((other / "summary.json").read_text())
    (other / "summary.json").write_text(
        json.dumps(summary | {"status": "running", "step": 20, "checkpoint": 20})
    )
    shutil.rmtree(other / "checkpoints" / "step-00000040")
    (other / "model.safetensors").unlink()
    outcome = dltrain("resume", "here")
    assert outcome.code == 0, outcome.err
    assert "going on   from step 20 of here/3" in outcome.out
    assert outcome.out.count("dataset ") == 2
    assert trials(here) == before
    assert states(here) == ["done"] * TRIALS


def test_a_result_that_was_not_told_is_told(dltrain, here):
    """As after a kill behind the end of the last job."""
    journal = (here / "optuna.jsonl").read_bytes().splitlines(keepends=True)
    assert journal[-1].startswith(b'{"op_code":6,')
    (here / "optuna.jsonl").write_bytes(b"".join(journal[:-1]))
    assert dltrain("resume", "here").out.count("dataset ") == 0
    again = (here / "optuna.jsonl").read_bytes().splitlines()
    assert json.loads(again[-1])["values"] == json.loads(journal[-1])["values"]


def test_a_bad_trial_is_pruned_and_keeps_its_checkpoint(with_pruned, dltrain, pruned):
    found = states(pruned)
    assert found[:2] == ["done", "done"]
    assert "pruned" in found
    run = sorted(pruned.glob("[0-9]*_*"))[found.index("pruned")]
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("stopped", 20)
    assert (run / "checkpoints" / "step-00000020").is_dir()
    assert "stopped    at step 20: median: accuracy/val was 0." in with_pruned[1].out
    before = trials(pruned)
    assert dltrain("resume", "here").code == 0
    assert trials(pruned) == before
    assert dltrain("resume", f"here/{run.name}").code == 0
    assert states(pruned)[found.index("pruned")] == "done"


@pytest.mark.slow
def test_several_at_once_in_processes_of_their_own(with_pruned, dltrain, tmp_path):
    settings = {"trials": 12, "pruner": "median", "pruner_args": "{n_startup_trials:2}"}
    given = [text for text in argv(**settings) if "launcher" not in text]
    outcome = dltrain(*given, "hydra/launcher=local", "sweep.jobs=3")
    assert outcome.code == 0, outcome.err
    found = states(tmp_path / "here")
    assert len(found) == 12
    assert set(found) == {"done", "pruned"}
    before = trials(tmp_path / "here")
    assert dltrain("resume", "here").code == 0
    assert trials(tmp_path / "here") == before


def test_a_trial_that_was_pruned_and_killed_before_that_was_noted_is_pruned(dltrain, pruned):
    before, found = trials(pruned), states(pruned)
    jobs = (pruned / "jobs.jsonl").read_text().splitlines(keepends=True)
    last = max(n for n, line in enumerate(jobs) if '"state": "pruned"' in line)
    number = json.loads(jobs[last])["number"]
    (pruned / "jobs.jsonl").write_text("".join(jobs[:last] + jobs[last + 1 :]))
    journal = (pruned / "optuna.jsonl").read_bytes().splitlines(keepends=True)
    ends = f'{{"op_code":6,.*"trial_id":{number},'.encode()
    kept = [line for line in journal if not re.match(ends, line)]
    assert len(kept) == len(journal) - 1
    (pruned / "optuna.jsonl").write_bytes(b"".join(kept))
    outcome = dltrain("resume", "here")
    assert (outcome.code, outcome.out.count("dataset ")) == (0, 0)
    assert (trials(pruned), states(pruned)) == (before, found)


def test_a_search_from_a_file_with_conditions_and_pairs(finished, dltrain, tmp_path):
    (tmp_path / "mine" / "sweep").mkdir(parents=True)
    (tmp_path / "mine" / "sweep" / "nets.yaml").write_text(
        "optuna:\n"
        "  trials: 6\n"
        "  sampler: random\n"
        "  seed: 1\n"
        "  space:\n"
        "    model: [mlp, linear]\n"
        "    model.hidden_sizes: {values: '[4],[8]', when: model=mlp}\n"
        "    loader.batch_size: [32, 64]\n"
        "    optimizer.lr: [0.001, 0.01]\n"
        "zip: [loader.batch_size, optimizer.lr]\n"
    )
    outcome = dltrain("train", "-m", "--config-dir=mine", "sweep=nets", "hydra/sweeper=optuna",
                      "hydra/launcher=basic", "hydra.sweep.dir=here", "trainer.max_steps=2",
                      "loggers=none")  # fmt: skip
    assert outcome.code == 0, outcome.err
    lines = (tmp_path / "here" / "jobs.jsonl").read_text().splitlines()
    tried = [json.loads(line)["job"]["swept"] for line in lines if '"job"' in line]
    assert len(tried) == 6
    assert {("model.hidden_sizes" in each, each["model"]) for each in tried} == {
        (True, "mlp"), (False, "linear")
    }  # fmt: skip
    assert {(each["loader.batch_size"], each["optimizer.lr"]) for each in tried} == {
        ("32", "0.001"), ("64", "0.01")
    }  # fmt: skip


def test_several_objectives_and_pictures(finished, dltrain, tmp_path):
    pytest.importorskip("matplotlib")
    settings = {"objectives": "[accuracy/val,num_parameters,loss/val]", "sampler": "nsgaii",
                "sampler_args": "{population_size:4}", "trials": 4}  # fmt: skip
    changed = [text for text in argv(**settings) if "hidden" not in text]
    outcome = dltrain(*changed, "model.hidden_sizes=[4],[8],[16]")
    assert outcome.code == 0, outcome.err
    assert "Pareto front of accuracy/val and num_parameters and loss/val: " in outcome.out
    head, *rows = outcome.out.partition("\njob  ")[2].partition("\n* Pareto front")[0].splitlines()
    assert head.split()[2:5] == ["accuracy/val", "num_parameters", "loss/val"]
    best = outcome.out.partition("and loss/val: ")[2].splitlines()[0].split(", ")
    assert sorted(row.split("*")[0] for row in rows if "*" in row) == best
    assert all((tmp_path / "here" / f"{name}.png").is_file() for name in ("history", "pareto"))
    journal = (tmp_path / "here" / "optuna.jsonl").read_text()
    told = [json.loads(line) for line in journal.splitlines()]
    values = [line["values"] for line in told if line["op_code"] == 6]
    for (*_, best), (accuracy, parameters, loss) in zip(
        trials(tmp_path / "here"), values, strict=True
    ):
        assert accuracy == best
        assert parameters > 100
        assert 0 < loss < 5


def test_a_failed_trial_counts_and_is_not_tried_again(finished, dltrain, tmp_path):
    rates = "optimizer.lr=1e38,0.1"
    given = [text for text in argv(trials=4, sampler="grid", sampler_args="{}") if text != LR]
    outcome = dltrain(*given, rates, "optimizer=sgd")
    assert outcome.code == 1
    assert sorted(states(tmp_path / "here")) == ["done", "failed"]
    again = dltrain("resume", "here")
    assert (again.code, again.out.count("dataset ")) == (1, 0)


def test_a_failure_ends_it_where_that_was_asked_for(finished, dltrain, tmp_path):
    given = [text for text in argv(trials=4) if text != LR]
    outcome = dltrain(*given, "optimizer.lr=tag(log,interval(1e36,1e38))", "optimizer=sgd",
                      "sweep.on_error=stop")  # fmt: skip
    assert outcome.code == 1
    assert states(tmp_path / "here") == ["failed"]
    assert "1 of 4 jobs are over. To go on:\n  dltrain resume here" in outcome.out
    assert dltrain("resume", "here").code == 1
    assert states(tmp_path / "here") == ["failed"] * 2, "it goes on to the next failure"


APART = ("loader.batch_size=64,32", "trainer.accumulate=1,64")  # 32 and 64 do not go together


def test_what_does_not_go_together_is_a_failed_trial(finished, dltrain, tmp_path):
    settings = {"sampler": "grid", "sampler_args": "{}", "trials": 4}
    given = [text for text in argv(**settings) if text != LR and "epochs" not in text]
    given += [*APART, "trainer.max_steps=1"]
    listed = dltrain(*given, "--dry-run")
    assert listed.code == 2
    assert "cannot run: trainer.accumulate is 64; it must be <= loader.batch_size" in listed.out
    assert not any(tmp_path.iterdir())
    outcome = dltrain(*given)
    assert outcome.code == 1, outcome
    found, here = states(tmp_path / "here"), tmp_path / "here"
    assert sorted(found) == ["done", "done", "done", "failed"]
    assert "batch_size=32,accumulate=64: trainer.accumulate is 64; it must be <=" in outcome.err
    number = found.index("failed")
    told = f'{{"op_code":6,.*"trial_id":{number},"state":3'.encode()  # FAIL
    lost = rf'{{"number": {number}, "state": "failed"'.encode()
    for file, line in (("optuna.jsonl", told), ("jobs.jsonl", lost)):  # as after a power cut
        lines = (here / file).read_bytes().splitlines(keepends=True)
        kept = [each for each in lines if not re.match(line, each)]
        assert len(kept) == len(lines) - 1
        (here / file).write_bytes(b"".join(kept))
    again = dltrain("resume", "here")
    assert (again.code, again.out.count("dataset ")) == (1, 0)
    assert states(here) == found
    assert any(re.match(told, line) for line in (here / "optuna.jsonl").read_bytes().splitlines())
    assert "4 of them over, 0 steps in all" in dltrain("resume", "here", "--dry-run").out


def test_what_is_wrong_with_all_of_them_is_no_failure_of_a_trial(dltrain, here, monkeypatch):
    """A disk that is not there would have all trials that are left count as failed."""

    def gone(*given, **options):
        raise UserError("the dataset is gone")

    monkeypatch.setattr("dltrain.commands.sweep_task.checked", gone)
    monkeypatch.setattr("dltrain.commands.sweep_search_space.checked", gone)
    outcome = dltrain("resume", "here", f"sweep.optuna.trials={TRIALS + 1}")
    assert outcome.code == 2
    assert "error: the dataset is gone" in outcome.err
    assert states(here) == ["done"] * TRIALS


def test_a_dry_run_lists_the_first_trials_and_writes_nothing(finished, dltrain, tmp_path):
    outcome = dltrain(*argv(trials=40), "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "40 trials in all" in outcome.out
    names = [name for name, *_ in trials(finished[0])][:2]
    assert all(name.partition("=")[2] in outcome.out for name in names)
    assert not any(tmp_path.iterdir())


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["sweep.optuna.trails=3"], "`sweep.optuna.trails`; did you mean `trials`?"),
        (["sweep.optuna.sampler_args={n_start:3}"], "the sampler tpe has no such argument"),
        (["sweep.optuna.objectives=[speed/val]"], "is to be large or small is not known"),
        (["sweep.repeat=3"], "sweep.repeat is 3; it is for hydra/sweeper=grid"),
        (["checkpoint.monitor=accuracy/val,loss/val"], "cannot be tried itself"),
        (["optimizer.lr=1"], "there is nothing to try"),
        (["optimizer.lr=interval(-1e-3,1)"], "optimizer.lr is -0.001; it must be a number > 0"),
        (["loader.batch_size=range(0,64,8)"], "loader.batch_size is 0; it must be >= 1"),
        (["sweep.optuna.space={model:{values:[mlp],wen:x}}"], "it may hold values and when"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_sentence_and_leaves_nothing(texts, message, finished, dltrain, tmp_path):
    keys = [text.partition("=")[0] for text in texts]
    given = [text for text in ARGV if text.partition("=")[0] not in keys]
    outcome = dltrain(*given, *texts)
    assert outcome.code == 2, outcome
    assert message in outcome.err
    assert len(outcome.err.splitlines()) <= 6
    assert not any(tmp_path.iterdir())


def test_without_optuna_the_extra_is_named(monkeypatch, dltrain, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    outcome = dltrain(*ARGV)
    assert outcome.code == 2
    assert "pip install 'dltrain[sweep]'" in outcome.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"model.hidden_sizes=[8]"', '"model.hidden_sizes=[8]", "name=${oc.env:HOME}"', "interpol"),
        ('"model.hidden_sizes=[8]"', '"model._target_=os.system"', "_target_"),
        ('"model.hidden_sizes=[8]"', '"model.hidden_sizes=[8]", 7', "not what a sweep writes"),
        ('"command": "dltrain', '"command": "dltrain --config-dir=x', "configs of your own"),
        ('"objectives": null', '"objectives": ["${oc.env:HOME}"]', "interpolation"),
    ],
)
def test_what_a_stranger_wrote_makes_no_trial(old, new, message, dltrain, here):
    text = (here / "sweep.json").read_text()
    text = json.dumps(json.loads(text))
    assert old in text
    (here / "sweep.json").write_text(text.replace(old, new, 1))
    outcome = dltrain("resume", "here", f"sweep.optuna.trials={TRIALS + 1}")
    assert outcome.code == 2, outcome
    assert message in outcome.err
    assert len(states(here)) == TRIALS


@pytest.mark.parametrize("text", ["seed=3", "objectives=[loss/val]", "space={seed:[1,2]}"])
def test_what_is_tried_and_compared_stays_what_it_was(text, dltrain, here):
    outcome = dltrain("resume", "here", f"sweep.optuna.{text}")
    assert outcome.code == 2
    assert "can be changed: sweep.jobs, sweep.on_error, sweep.optuna.trials, " in outcome.err


def test_a_new_trial_sends_nothing_where_a_file_says(dltrain, here):
    from dltrain.sweeps.ledger import read_ledger

    text = json.dumps(json.loads((here / "sweep.json").read_text()))
    uri = "sqlite:///elsewhere.db"
    sent = f'"loggers=mlflow", "loggers.mlflow.tracking_uri={uri}"'
    assert '"loggers=none"' in text
    (here / "sweep.json").write_text(text.replace('"loggers=none"', sent, 1))
    outcome = dltrain("resume", "here", f"sweep.optuna.trials={TRIALS + 1}")
    assert f"note       job {TRIALS}: the recorded loggers.mlflow.tracking_uri" in outcome.out
    assert read_ledger(here).jobs[TRIALS].config["loggers"]["mlflow"]["tracking_uri"] is None


def test_no_new_trial_is_trained_through_a_link(finished, dltrain, here, tmp_path):
    """The name of the next one follows from what is in the files."""
    (tmp_path / "elsewhere").mkdir()
    last = trials(here)[-1][0]
    jobs = (here / "jobs.jsonl").read_text().splitlines(keepends=True)
    number = rf'{{"(job": {{")?number": {TRIALS - 1},'
    kept = [line for line in jobs if not re.match(number, line)]
    (here / "jobs.jsonl").write_text("".join(kept))
    shutil.rmtree(here / last)
    (here / last).symlink_to(tmp_path / "elsewhere")
    outcome = dltrain("resume", "here")
    assert outcome.code == 2, outcome
    assert f"{last} is a link" in outcome.err
    assert not any((tmp_path / "elsewhere").iterdir())


def test_an_evaluation_is_reported_once(tmp_path):
    """Whatever has been before it; and one that stopped its trial again, if that goes on."""
    from types import SimpleNamespace

    from dltrain.commands.sweep_search import Trials

    reported = []

    def report(number, index, value):
        reported.append(index)
        return index == 4

    directory = "0_a"
    (tmp_path / directory).mkdir()
    search = SimpleNamespace(total=1, settings={"pruner": "median"}, report=report)
    task = SimpleNamespace(folder=tmp_path, ledger=SimpleNamespace(jobs={}))
    common = {"checkpoint": {"monitor": "loss/val"}}
    judge = Trials(task, None, None, search, common, check=lambda: None).judge
    for step in range(1, 6):
        row = {"step": step, "epoch": step, "split": "val", "time": 1.0, "loss": 0.5}
        with (tmp_path / directory / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        reason = judge(SimpleNamespace(number=0, directory=directory), {})
        assert (reason is not None) == (step >= 4)
    assert reported == [1, 2, 3, 4, 4]


def test_a_journal_that_is_lost_is_missed(dltrain, here):
    (here / "optuna.jsonl").unlink()
    outcome = dltrain("resume", "here", f"sweep.optuna.trials={TRIALS + 1}")
    assert outcome.code == 2
    assert f"does not know all of the {TRIALS} jobs" in outcome.err
