"""What `train -m` makes of keys, files and the `sweep` node: jobs, their names, --dry-run."""

import json
import shlex
import shutil

import pytest
from mistakes import assert_mended_by_the_user

from dltrain.build_data import read_data
from dltrain.claim import Claim
from dltrain.commands.dry_run import table_lines
from dltrain.commands.sweep import stored_arguments
from dltrain.config.compose import config_dir
from dltrain.sweeps.ledger import read_ledger

FAST = (
    "trainer.max_steps=1",
    "trainer.threads=1",
    "model.hidden_sizes=[8]",
    "hydra/launcher=basic",
    "loggers=none",
    "callbacks=none",
)
PAIRS = (
    "optimizer.lr=0.1,0.01,0.001", "loader.batch_size=32,64,128",
    "sweep.zip=[optimizer.lr,loader.batch_size]", "sweep.repeat=2",
)  # fmt: skip


def listed(outcome):
    """Of a dry run, what varies: a list of words for each job."""
    assert outcome.code == 0, outcome
    table = outcome.out.split("\n\n")[0].splitlines()
    return [line.split()[1:-5] for line in table if line.split()[0].isdecimal()]


def records(sweep):
    lines = (sweep / "jobs.jsonl").read_text().splitlines()
    return [data["job"] for data in map(json.loads, lines) if "job" in data]


def test_a_paired_sweep_over_seeds_is_a_row_for_each_pair_in_compare(dltrain, tmp_path):
    outcome = dltrain("train", "-m", "hydra.sweep.dir=here", *PAIRS, *FAST)
    assert outcome.code == 0, outcome.err
    assert sorted(path.parent.name for path in tmp_path.glob("here/*/run.json")) == [
        f"{number}_lr={lr},batch_size={size},seed={seed}"
        for number, (lr, size, seed) in enumerate(
            (lr, size, seed)
            for lr, size in ((0.1, 32), (0.01, 64), (0.001, 128))
            for seed in (0, 1)
        )
    ]
    table = dltrain("compare", "here", "--group", "seed", "--format", "csv")
    assert len(table.out.splitlines()) == 1 + 3
    assert "eval_batch_size" not in table.out, "the batch size, by the config"


def test_what_a_sweep_is_is_no_part_of_its_jobs(dltrain, tmp_path):
    argv = ("train", "-m", "hydra.sweep.dir=here", "sweep=seeds", "sweep.repeat=2", *FAST)
    assert dltrain(*argv).code == 0
    (tmp_path / "here" / "1_seed=1" / "run.json").unlink()
    for job in records(tmp_path / "here"):
        assert "sweep" not in job["config"]
        assert "sweep" not in job["choices"]
        assert not [text for text in job["overrides"] if "sweep" in text]
    assert "sweep" not in (tmp_path / "here" / "0_seed=0" / "config.yaml").read_text()
    assert dltrain(*argv, "sweep.jobs=1").code == 0  # the same sweep, run in another way


@pytest.mark.slow
def test_how_a_sweep_runs_is_no_part_of_its_jobs_whoever_makes_them(dltrain, tmp_path):
    argv = ("train", "-m", "hydra.sweep.dir=here", "hydra/sweeper=basic", "sweep.jobs=1", *FAST)
    assert dltrain(*argv).code == 0
    assert not [
        text for job in records(tmp_path / "here") for text in job["overrides"] if "sweep" in text
    ]


def test_a_sweep_is_resumed_as_its_file_said_when_it_began(dltrain, tmp_path):
    file = tmp_path / "mine" / "sweep" / "two.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("on_error: stop\ngrid: {seed: [1, 2]}\n")
    argv = ("train", "-m", "--config-dir=mine", "hydra.sweep.dir=here", "sweep=two", *FAST)
    assert dltrain(*argv).code == 0
    shutil.rmtree(tmp_path / "here" / "1_seed=2")
    shutil.rmtree(tmp_path / "mine")
    outcome = dltrain("resume", "here")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "here" / "1_seed=2" / "model.safetensors").is_file()


def test_settings_of_a_sweep_that_goes_on_are_plain_data_and_what_is_typed_wins():
    settings = {"jobs": 2, "on_error": "retry:3", "grid": {"seed": [1]}, "halving": {"eta": "${x}"}}
    found = stored_arguments({"settings": settings}, ["sweep.jobs=1"])
    assert found == ["hydra/sweeper=recorded", "sweep.on_error='retry:3'"]


def test_a_folder_of_a_job_is_one_that_can_be_read_again(dltrain, tmp_path):
    argv = ("train", "-m", "hydra.sweep.dir=here", "seed=1,2", *FAST)
    outcome = dltrain(*argv, "hydra.sweep.subdir='a\u200b${hydra.job.num}'")
    assert outcome.code == 2, outcome
    assert "is to be the folder of job 0; it must be printable text" in outcome.err
    assert not any(tmp_path.iterdir())


# ---------------------------------------------------------------------- --dry-run


def test_a_dry_run_lists_every_job_and_leaves_nothing(without_torch, tmp_path):
    outcome = without_torch("train", "-m", "--dry-run", *PAIRS)
    assert listed(outcome)[:3] == [
        ["lr=0.1", "batch_size=32", "seed=0"],
        ["lr=0.1", "batch_size=32", "seed=1"],
        ["lr=0.01", "batch_size=64", "seed=0"],
    ]
    assert "1,200 steps, 30 epochs  0_lr=0.1,batch_size=32,seed=0" in outcome.out
    assert "6 jobs, 4,200 steps in all; nothing was trained or written" in outcome.out
    assert not outcome.torch
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("", "600 steps, 30 epochs"),
        ("trainer.max_epochs=1", "20 steps, 1 epoch"),
        ("trainer.max_epochs=2 loader.drop_last=true", "38 steps, 2 epochs"),
        ("trainer.max_steps=50 loader.limit_batches=4", "50 steps, 12.5 epochs"),
        ("trainer.max_time=1h", "for 3600 s"),
        ("trainer.max_time=10s trainer.max_steps=20", "20 steps, 1 epoch, 10 s at most"),
    ],
)
def test_a_dry_run_knows_how_long_a_run_is(typed, expected, without_torch, tmp_path):
    outcome = without_torch("train", "--dry-run", *typed.split())
    assert outcome.code == 0, outcome.err
    assert f"0  {expected}  " in outcome.out
    assert not any(tmp_path.iterdir())


def test_a_dry_run_says_which_jobs_could_not_begin(without_torch, tmp_path):
    outcome = without_torch("train", "-m", "--dry-run", "loader.batch_size=32,5000", "seed=1,2")
    assert outcome.code == 2
    assert "2, 3 cannot run: loader.batch_size is 5000, but the training set has" in outcome.out
    assert "4 jobs, 2,400 steps in all, 2 cannot run" in outcome.out
    assert not any(tmp_path.iterdir())


def test_a_dry_run_is_as_wide_as_the_terminal_and_tells_the_jobs_apart():
    jobs = [[str(n), f"lr={n}  batch_size=32", f"{n} steps, 30 epochs", f"{n}_lr={n},batch_size=32"]
            for n in range(12)]  # fmt: skip
    assert (
        table_lines(jobs, None)[3]
        == " 3  lr=3  batch_size=32   3 steps, 30 epochs   3_lr=3,batch_size=32"
    )
    assert table_lines(jobs, 60)[3] == " 3  lr=3  batch_size=32   3 steps, 30 epochs"
    assert table_lines(jobs, 40)[3] == " 3  lr=3  batch_size=32"
    for width in range(8, 80):
        assert max(map(len, table_lines(jobs, width))) <= width
    single = [["0", "", "600 steps, 30 epochs", "a_folder"]]
    assert table_lines(single, 40) == ["0  600 steps, 30 epochs  a_folder"]


def test_a_sweep_of_nothing_is_said_to_be_one(without_torch):
    note = "one job: nothing is swept; key=a,b tries several"
    assert note in without_torch("train", "-m", "--dry-run", "seed=3").out
    assert note not in without_torch("train", "-m", "--dry-run", "sweep.repeat=2").out


def test_a_dry_run_of_a_sweep_that_was_begun_says_what_is_left(dltrain, three_jobs, tmp_path):
    shutil.copytree(three_jobs[0], tmp_path / "here")
    shutil.rmtree(tmp_path / "here" / "1_lr=0.001")
    before = sorted(tmp_path.rglob("*"))
    with Claim(tmp_path / "here"):  # somebody runs it just now
        outcome = dltrain(*three_jobs[1], "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "3 jobs, 2 of them over, 40 steps in all" in outcome.out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_reads_each_dataset_once(three_jobs, monkeypatch):
    from dltrain.commands import dry_run

    read, config = [], read_ledger(three_jobs[0]).jobs[0].config
    sizes = [5000, 32, 64, 5000]

    def counted(*given, **options):
        read.append(given)
        return read_data(*given, **options)

    monkeypatch.setattr(dry_run, "read_data", counted)
    lengths = dry_run.Lengths([])
    configs = [config | {"loader": config["loader"] | {"batch_size": size}} for size in sizes]
    found = [lengths.of(dry_run.Planned(0, {}, "", each)) for each in configs]
    assert [each.steps for each in found] == [None, 80, 40, None]
    assert "loader.batch_size is 5000" in found[0].problem
    assert len(read) == 1


def test_equal_jobs_are_a_mistake_even_where_their_words_differ(without_torch):
    settings = "sweep.list=[{seed:0},{optimizer:adamw}]"
    outcome = without_torch("train", "-m", "--dry-run", settings)
    assert outcome.code == 2
    assert "the jobs 0 and 1 are equal: `seed=0` and `optimizer=adamw`" in outcome.err


# ---------------------------------------------------------------------- files and keys


def test_every_file_of_a_sweep_is_tried_here():
    names = {path.stem for path in (config_dir() / "sweep").glob("*.yaml")}
    assert names == {"default", "lr", "lr_width", "seeds"}


@pytest.mark.slow
def test_files_for_seeds_and_learning_rates(without_torch):
    found = listed(without_torch("train", "-m", "--dry-run", "sweep=seeds", "seed=3"))
    assert found == [[f"seed={seed}"] for seed in range(3, 8)]
    found = listed(without_torch("train", "-m", "--dry-run", "sweep=lr"))
    assert [found[0], len(found), found[-1]] == [["lr=1e-05"], 11, ["lr=1.0"]]


def test_a_condition_of_a_file_keeps_a_key_from_the_model_that_lacks_it(without_torch):
    found = listed(without_torch("train", "-m", "--dry-run", "sweep=lr_width"))
    assert {("hidden" in " ".join(job), "widths" in " ".join(job)) for job in found} == {
        (True, False),
        (False, True),
    }


# What is typed, in bash and zsh -> the first jobs of it
TYPED = {
    "'sweep.grid={optimizer.lr:[0.1,1],seed:\"range(1,3)\"}'": ["lr=0.1 seed=1", "lr=0.1 seed=2"],
    "model=mlp,linear model.dropout=0.1,0.2 'sweep.when={model.dropout:{model:mlp}}'": [
        "model=mlp dropout=0.1", "model=mlp dropout=0.2", "model=linear",
    ],
    "'sweep.list=[{optimizer.lr:0.1,seed:1},{optimizer.lr:1}]'": ["lr=0.1 seed=1", "lr=1"],
    "'sweep.grid.optimizer.lr=[0.1,0.01]' 'sweep.grid.seed=[7,8]'": ["lr=0.1 seed=7"],
    "sweep=seeds sweep.repeat=1 'sweep.grid={optimizer:[sgd,adamw]}'": [
        "optimizer=sgd", "optimizer=adamw",
    ],
    "seed=1,2 optimizer=sgd 'sweep.when={seed:\"optimizer.momentum!=0.5\"}'": ["seed=1", "seed=2"],
    "'optimizer.lr=tag(log,interval(1e-4,1e-1))' sweep.random=3 sweep.sampler=uniform": [],
    "'scheduler=glob(co*)'": ["scheduler=constant", "scheduler=cosine"],
    "'+hydra.sweeper.params={seed:\"4,5\"}'": ["seed=4", "seed=5"],
    "callbacks=[default,ema],[default]": ["callbacks=default-ema", "callbacks=default"],
}  # fmt: skip


def check_typed(line, run):
    found = [" ".join(job) for job in listed(run("train", "-m", "--dry-run", *shlex.split(line)))]
    assert len(found) > 1
    assert found[: len(TYPED[line])] == TYPED[line]


@pytest.mark.parametrize("line", list(TYPED)[:2])
def test_what_a_shell_passes_on(line, without_torch):
    check_typed(line, without_torch)


@pytest.mark.slow
@pytest.mark.parametrize("line", list(TYPED)[2:])
def test_whatever_a_shell_passes_on(line, without_torch):
    check_typed(line, without_torch)


MISTAKES = {
    "train sweep=lr": "`sweep=lr`|-m|dltrain train -m sweep=lr",
    "train sweep.repeat=5 seed=1": "`sweep.repeat=5`|dltrain train -m sweep.repeat=5 seed=1",
    "train -m sweep=lrs": "`sweep=lrs`|`lr`",
    "train -m sweep.repeat=0": "sweep.repeat is 0",
    "train -m sweep.repeat=1,2": "`sweep.repeat=1,2`|one value",
    "train -m sweep=lr,seeds": "`sweep=lr,seeds`|one value",
    "train -m sweep.jobs=none": "sweep.jobs is 'none'|auto",
    "train -m sweep.on_error=retry": "sweep.on_error is 'retry'|retry:N",
    "train -m sweep.repat=2": "`sweep.repat`|`sweep.repeat`",
    "train -m +sweep.repat=2": "`sweep.repat`|`sweep.repeat`",
    "train -m sweep.zip=3": "sweep.zip|'[optimizer.lr,loader.batch_size]'",
    "train -m sweep.list=[1,2]": "sweep.list|setting",
    "train -m 'sweep.list={seed:1}'": "sweep.list|a list",
    "train -m sweep.random=0": "sweep.random is 0",
    "train -m sweep.sampler=halton": "sweep.sampler|sobol, uniform",
    "train -m 'sweep.grid={optimzer.lr:[1,2]}'": "`optimzer.lr`|`optimizer.lr`",
    "train -m 'sweep.grid={seed:range(1,3)}'": "within brackets needs quotes|\"range(1,4)\"",
    "train -m seed=1,2 'sweep.when={seed:model=cnn}'": "what holds = , or ( is quoted there",
    "train -m 'sweep.grid={seed:\"range(1,3\"}'": "sweep.grid|seed=range(1,3|bracket",
    "train -m model.hidden_sizes=16,32": "must be a list|'model.hidden_sizes=[16],[32]'",
    "train -m seed=1,2 --dry-run hydra/launcher=submitit_slurm hydra.launcher.timeout_min=2h":
        "hydra.launcher.timeout_min is '2h'",
    "train -m hydra.sweep.dir=a,b": "`hydra.sweep.dir=a,b`|Hydra's own",
    "train -m hydra/sweeper=basic seed=1,2 sweep.repeat=2": "sweep.repeat|hydra/sweeper=grid",
    "train -m seed=1,2 +hydra.job.env_set.A=1": "hydra.job.env_set|A=... dltrain train",
    "train -m seed=1,2 sweep.halving.first=2epochs": "sweep.halving.first|hydra/sweeper=halving",
    "train -m seed=1,2 sweep.optuna.trials=3": "sweep.optuna.trials|hydra/sweeper=optuna",
    "train -m model=linear,mlp 'model.hidden_sizes=[8],[9]'":
        "job 0: model=linear model.hidden_sizes=[8]|'sweep.when={model.hidden_sizes:{model:NAME}}'",
}  # fmt: skip


def check_mistake(line, run, folder):
    if "hydra/sweeper=optuna" in line:
        pytest.importorskip("optuna")
    outcome = run(*shlex.split(line))
    assert_mended_by_the_user(outcome, MISTAKES[line].split("|"))
    assert not outcome.torch
    assert not any(folder.iterdir())


SOME = list(MISTAKES)[::4]


@pytest.mark.parametrize("line", SOME)
def test_a_mistake_is_told_at_once_and_leaves_nothing(line, without_torch, tmp_path):
    check_mistake(line, without_torch, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in MISTAKES if line not in SOME])
def test_any_mistake_is_told_at_once_and_leaves_nothing(line, without_torch, tmp_path):
    check_mistake(line, without_torch, tmp_path)


def test_how_a_sweep_runs_may_be_said_where_there_is_none(without_torch):
    assert without_torch("train", "--dry-run", "sweep.jobs=2", "sweep.on_error=stop").code == 0


@pytest.mark.parametrize("text", ["zip: {a: 1}", "when: [1]"])
def test_a_list_where_keys_belong_is_told_with_its_file(text, without_torch, tmp_path):
    (tmp_path / "mine" / "sweep").mkdir(parents=True)
    (tmp_path / "mine" / "sweep" / "odd.yaml").write_text(text)
    outcome = without_torch("train", "-m", "--config-dir=mine", "sweep=odd")
    assert_mended_by_the_user(outcome, ["sweep/odd.yaml: a list stands where keys"])
