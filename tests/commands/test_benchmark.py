"""`dltrain benchmark`: measures the config that train would run, says what it waits for."""

import re

import pytest
from photos import make_folder

from dltrain.commands.advice import Facts, advice, verdict
from dltrain.commands.benchmark import in_units, in_words

BRIEF = ("--seconds", "0.2", "trainer.threads=1", "model.hidden_sizes=[16]")
CONFIG = {
    "dataset": {"decode": "exact"},
    "loader": {"batch_size": 64},
    "trainer": {"compile": False, "threads": "auto"},
    "augmentation": {},
}
FACTS = {
    "data": 0.01, "step": 0.1, "both": 0.11, "waiting": 0.09, "storage": "device", "num_workers": 0,
    "device": "cpu",     "precision": "fp32", "cores": 4, "run_sec": 10.0, "bf16": False,
}  # fmt: skip


def table(outcome):
    rows = [line.split() for line in outcome.out.splitlines()]
    return {row[0]: row for row in rows if row and row[0] in ("data", "step", "both")}


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.max_steps=3",),  # of a budget that a round exceeds
        ("trainer.max_time=0.01 s", "trainer.log_every=2 steps"),
        ("trainer.accumulate=2", "callbacks=[default,ema,profiler]", "loader.drop_last=true"),
        ("loader.placement=stream", "loader.num_workers=1"),
        ("dataset=synthetic", "dataset.num_val=0", "checkpoint.monitor=accuracy/train"),
    ],
    ids=["steps", "time", "accumulate", "stream", "no-val"],
)
def test_it_measures_and_writes_nothing(overrides, dltrain, tmp_path):
    outcome = dltrain("benchmark", *BRIEF, *overrides)
    assert (outcome.code, outcome.err) == (0, "")
    assert table(outcome).keys() == {"data", "step", "both"}
    assert re.search(r"^waits for  the (step|data): ", outcome.out, re.MULTILINE)
    assert re.search(r"^takes      .* an epoch, ", outcome.out, re.MULTILINE)
    assert "\x1b" not in outcome.out
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("optimzer.lr=1",), "did you mean `optimizer.lr`?"),
        (("loader.batch_size=100000",), "choose loader.batch_size <= 1257"),
        (("dataset=mnist", "dataset.root=nowhere"), "nowhere"),
        (("--seconds", "soon"), "--seconds must be followed by a number"),
        (("--seconds",), "--seconds must be followed by a number"),
        (("-m", "seed=1,2"), "benchmark measures one config"),
        (("init_from=nowhere.pth",), "there is no file or folder nowhere.pth"),
    ],
)
def test_mistakes_are_those_of_train(argv, message, without_torch, tmp_path):
    outcome = without_torch("benchmark", *argv)
    assert (outcome.code, outcome.torch) == (2, False)
    assert message in outcome.err
    assert not any(tmp_path.iterdir())


def test_files_are_decoded_while_it_measures(dltrain, tmp_path):
    photo_folder = make_folder(tmp_path / "photos")
    outcome = dltrain(
        "benchmark", "--seconds", "0.2", "dataset=image_folder", f"dataset.root={photo_folder}",
        "dataset.size=16", "augmentation=imagenet", "model=linear", "loader.batch_size=5",
        "trainer.threads=1",
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    assert "workers as needed" in outcome.out
    assert table(outcome).keys() == {"data", "step", "both"}


def test_a_narrow_terminal(dltrain, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    said = dltrain("benchmark", *BRIEF).out.partition("takes ")[2]
    assert max(map(len, said.splitlines())) <= 40


# ---------------------------------------------------------------------- words


def test_what_it_waits_for():
    fast_data = verdict(Facts(**FACTS))
    assert fast_data.startswith("the step: the data would be ready 10 times sooner; ")
    assert fast_data.endswith("waits 9% of its time for batches")
    slow_data = verdict(Facts(**FACTS | {"data": 0.3, "both": 0.4, "waiting": 0.75}))
    assert slow_data == (
        "the data: the step alone is 3.0 times as fast; the loop waits 75% of its time for "
        "batches, and trains at 25% of the speed of the step alone"
    )


SLOW_DATA = {"data": 0.3, "both": 0.4, "waiting": 0.75}


@pytest.mark.parametrize(
    ("facts", "settings", "expected"),
    [
        ({}, {}, []),
        (
            SLOW_DATA | {"storage": "stream"},
            {},
            ["loader.placement=device", "loader.num_workers=4"],
        ),
        (
            SLOW_DATA | {"storage": "stream", "fits": False, "num_workers": 4},
            {},
            ["more CPU cores"],
        ),
        (
            SLOW_DATA | {"storage": "stream", "decodes": True},
            {},
            ["dltrain prepare", "dataset.decode=fast", "loader.num_workers=4"],
        ),
        (SLOW_DATA | {"storage": "host"}, {}, ["loader.placement=device"]),
        (SLOW_DATA, {"augmentation": {"color": {}}}, ["a cheaper augmentation (color now)"]),
        ({"device": "cuda"}, {}, ["trainer.precision=bf16"]),
        ({"bf16": True}, {}, ["trainer.precision=bf16"]),
        ({"bf16": True, "precision": "bf16", "run_sec": 1e4}, {}, ["trainer.compile=true"]),
        ({"run_sec": 1e4}, {"trainer": {"compile": True, "threads": "auto"}}, []),
        ({}, {"trainer": {"compile": False, "threads": 1}}, ["trainer.threads=auto"]),
        ({"step": 1e-4, "both": 1e-4, "data": 1e-5}, {}, ["loader.batch_size=256"]),
    ],
)
def test_what_to_change(facts, settings, expected):
    lines = advice(Facts(**FACTS | facts), CONFIG | settings)
    assert len(lines) == len(expected), lines
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True)), lines


def test_times_are_written_as_people_read_them():
    times = (3.51e-5, 9.996e-4, 0.0432, 1.272, 123.4)
    assert [in_units(t) for t in times] == ["35.1 us", "1000 us", "43.2 ms", "1.27 s", "123 s"]
    durations = (0.4, 12.0, 200.0, 9000.0, 400_000.0)
    assert [in_words(t) for t in durations] == ["400 ms", "12.0 s", "3.3 min", "2.5 h", "4.6 days"]
