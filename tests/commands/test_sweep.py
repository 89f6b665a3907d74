"""`dltrain train -m`: where its jobs go, their names, and what becomes of one that fails."""

import json

import pytest

SHORT = ("trainer.max_epochs=1", "trainer.threads=1", "model.hidden_sizes=[8]")


@pytest.fixture
def dltrain(dltrain):
    """Jobs in this process, which has imported torch: where they run is tested elsewhere."""
    return lambda *argv: dltrain(*argv, "hydra/launcher=basic")


def jobs(folder):
    """(the sweep's directory, its jobs' names in order), of the only sweep below `folder`."""
    records = sorted(folder.rglob("run.json"), key=lambda path: path.parent.name)
    sweeps = {record.parents[1] for record in records}
    assert len(sweeps) == 1, f"scattered over {sweeps}"
    return sweeps.pop(), [record.parent.name for record in records]


@pytest.mark.parametrize("at", [0, 3])
def test_m_anywhere_among_the_arguments(at, dltrain, tmp_path):
    argv = ["trainer.max_steps=2", "seed=1,2", "model.hidden_sizes=[8]"]
    argv.insert(at, "-m")
    outcome = dltrain("train", *argv)
    assert outcome.code == 0, outcome.err
    assert jobs(tmp_path)[1] == ["0_seed=1", "1_seed=2"]


def test_the_word_is_as_good_as_the_letter(dltrain, tmp_path):
    assert dltrain("train", "seed=1", "--multirun", *SHORT, "trainer.max_steps=1").code == 0
    assert jobs(tmp_path)[1] == ["0"]


def test_jobs_that_vary_the_name_do_not_scatter(dltrain, tmp_path):
    argv = ("model=mlp,linear", "optimizer.lr=0.1,1", "trainer.max_steps=2")
    outcome = dltrain("train", "-m", *argv)
    assert outcome.code == 0, outcome.err
    sweep, names = jobs(tmp_path)
    assert sweep.parent == tmp_path / "outputs" / "digits_mlp"
    assert sweep.name.endswith("_sweep")
    assert names == [
        "0_model=mlp,lr=0.1", "1_model=mlp,lr=1", "2_model=linear,lr=0.1", "3_model=linear,lr=1",
    ]  # fmt: skip
    relative = sweep.relative_to(tmp_path)
    assert outcome.out.splitlines()[-1] == f"sweep: {relative}"
    assert f"run        {relative}/0_model=mlp,lr=0.1" in outcome.out


def test_a_job_is_a_whole_run(dltrain, tmp_path):
    argv = ("train", *SHORT, "-m", "optimizer=adamw,sgd", "seed=range(0,2)")
    assert dltrain(*argv).code == 0
    sweep, names = jobs(tmp_path)
    assert len(names) == 4
    job = sweep / "3_optimizer=sgd,seed=1"
    record = json.loads((job / "run.json").read_text())
    assert record["command"] == (
        "dltrain train trainer.max_epochs=1 trainer.threads=1 'model.hidden_sizes=[8]' "
        "-m optimizer=adamw,sgd 'seed=range(0,2)' hydra/launcher=basic"
    )
    assert record["choices"]["optimizer"] == "sgd"
    assert record["seed"] == 1
    overrides = (job / ".hydra" / "overrides.yaml").read_text()
    assert "- optimizer=sgd\n- seed=1\n" in overrides
    assert "_target_: torch.optim.SGD" in (job / ".hydra" / "config.yaml").read_text()
    assert (job / ".hydra" / "hydra.yaml").read_text().startswith("hydra:")
    assert (job / "model.safetensors").is_file()
    assert json.loads((job / "summary.json").read_text())["status"] == "completed"


def test_a_list_loses_its_brackets_and_no_minus_is_added(dltrain, tmp_path):
    sizes = "model.hidden_sizes=[8],[16,8]"
    assert dltrain("train", "-m", sizes, "trainer.max_steps=1").code == 0
    assert jobs(tmp_path)[1] == ["0_hidden_sizes=8", "1_hidden_sizes=16-8"]


def test_a_job_that_fails_does_not_end_the_others(dltrain, tmp_path):
    argv = ("train", "-m", "loader.batch_size=64,5000,32", "trainer.max_steps=2")
    outcome = dltrain(*argv)
    assert outcome.code == 1
    assert outcome.err.startswith("dltrain: error: 1_batch_size=5000: ")
    assert "Traceback" not in outcome.err
    sweep, names = jobs(tmp_path)
    assert names == ["0_batch_size=64", "2_batch_size=32"]
    assert outcome.out.splitlines()[-1] == f"{sweep.relative_to(tmp_path)}: 1 failed"
    assert not (sweep / "1_batch_size=5000").exists()


def test_a_job_that_diverges_is_recorded_and_the_next_is_trained(dltrain, tmp_path):
    argv = ("optimizer=sgd", "optimizer.lr=1e38,0.1", "trainer.max_steps=30")
    outcome = dltrain("train", "-m", *argv)
    assert outcome.code == 1
    sweep, names = jobs(tmp_path)
    states = [json.loads((sweep / name / "summary.json").read_text())["status"] for name in names]
    assert states == ["failed", "completed"]


def test_every_value_is_looked_at_before_the_first_job(dltrain, tmp_path):
    outcome = dltrain("train", "-m", "seed=1,2", "loader.batch_size=8,16,-32", *SHORT)
    assert outcome.code == 2
    assert "loader.batch_size is -32" in outcome.err
    assert not any(tmp_path.iterdir())


def test_a_sweep_does_not_write_over_another(dltrain, tmp_path):
    argv = ("train", "-m", "hydra.sweep.dir=here", "trainer.max_steps=1", "model.hidden_sizes=[8]")
    assert dltrain(*argv, "seed=1,2").code == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".yaml"]
    files += list(tmp_path.glob("here/*/.hydra/*"))
    before = {path: path.read_bytes() for path in files}
    outcome = dltrain(*argv, "seed=1,3")
    assert outcome.code == 2
    assert "here holds another sweep: its job 1 has" in outcome.err
    outcome = dltrain(*argv, "seed=1")
    assert outcome.code == 2
    assert "here holds another sweep: it has 2 jobs, and this command makes 1" in outcome.err
    assert jobs(tmp_path)[1] == ["0_seed=1", "1_seed=2"]
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_sweep_does_not_begin_among_runs_that_are_none_of_its(dltrain, tmp_path):
    (tmp_path / "here" / "0_seed=1").mkdir(parents=True)
    (tmp_path / "here" / "0_seed=1" / "summary.json").write_text("{}")
    outcome = dltrain("train", "-m", "hydra.sweep.dir=here", "seed=1,2", *SHORT)
    assert outcome.code == 2
    assert "here/0_seed=1 holds a run already" in outcome.err
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["summary.json"]


def test_a_glob_and_a_sweep_from_a_config(dltrain, tmp_path):
    outcome = dltrain("train", "-m", "scheduler=glob(co*)", "trainer.max_steps=1", "model=linear")
    assert outcome.code == 0, outcome.err
    assert jobs(tmp_path)[1] == ["0_scheduler=constant", "1_scheduler=cosine"]


def test_hydra_mode_multirun_is_a_sweep_too(dltrain, tmp_path):
    outcome = dltrain("train", "hydra.mode=MULTIRUN", "trainer.max_steps=1", "model=linear")
    assert outcome.code == 0, outcome.err
    assert jobs(tmp_path)[0].name.endswith("_sweep")


def test_two_sweeps_of_one_name_that_we_made_have_each_their_own(dltrain, tmp_path):
    argv = ("train", "-m", "trainer.max_epochs=1", "model.hidden_sizes=[8]",
            "hydra.sweep.dir='here_${now:%Y}'", "seed=0")  # fmt: skip
    for _ in range(2):
        outcome = dltrain(*argv)
        assert outcome.code == 0, outcome.err
    first, second = sorted(tmp_path.glob("here_*"))
    assert second.name == f"{first.name}_2"
    for sweep in (first, second):
        assert [path.parent.name for path in sweep.glob("*/run.json")] == ["0"]
