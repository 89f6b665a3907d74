"""What a search makes better, and where it reads that."""

import json

import pytest

from dltrain.errors import UserError
from dltrain.sweeps.objectives import Objective, objectives_of, values_of


def chosen(names=None, directions=None):
    return objectives_of(names, directions, monitor="accuracy/val", mode="max")


def test_by_default_what_is_monitored():
    assert chosen() == [Objective("accuracy/val", "max")]
    assert chosen(["loss/val", "num_parameters", "samples_per_sec"]) == [
        Objective("loss/val", "min"),
        Objective("num_parameters", "min"),
        Objective("samples_per_sec", "max"),
    ]
    assert chosen(["speed/val"], ["max"]) == [Objective("speed/val", "max")]


@pytest.mark.parametrize(
    ("names", "directions", "message"),
    [
        (["speed/val"], None, "whether speed/val is to be large or small is not known"),
        (None, ["max", "min"], "sweep.optuna.directions has 2 entries for 1"),
        (None, ["min"], "and checkpoint.mode is max; let them agree"),
    ],
)
def test_a_direction_that_does_not_fit_is_named(names, directions, message):
    with pytest.raises(UserError) as caught:
        chosen(names, directions)
    assert message in str(caught.value)


@pytest.fixture
def run(tmp_path):
    best = {"monitor": "accuracy/val", "step": 20, "value": 0.9}
    summary = {"status": "completed", "best": best, "num_parameters": 10, "wall_time_sec": 1.5}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    rows = [
        {"step": step, "epoch": 1, "split": split, "loss": loss, "accuracy": 0.5}
        for step, split, loss in [
            (10, "train", 4.0), (10, "val", 3.0), (20, "val", 2.0), (30, "train", 1.0),
            (30, "val", 0.1),
        ]
    ]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text(text)
    return tmp_path


def test_other_metrics_are_those_of_the_best_weights(run):
    objectives = chosen(["accuracy/val", "loss/val", "loss/train", "num_parameters"])
    assert values_of(run, objectives) == [0.9, 2.0, 4.0, 10.0]


def test_what_is_missing_makes_no_result(run):
    assert values_of(run, chosen(["samples_per_sec"])) is None
    assert values_of(run, chosen(["speed/val"], ["max"])) is None
    (run / "summary.json").write_text('{"status": "completed", "best": null}')
    assert values_of(run, chosen()) is None
    assert values_of(run, chosen(["loss/val"])) is None


def test_a_summary_of_somebody_else_makes_no_result(run):
    for value in ('"x"', "true", "1e999", "null", "[1]"):
        text = f'{{"best": {{"monitor": "accuracy/val", "step": 1, "value": {value}}}}}'
        (run / "summary.json").write_text(text)
        assert values_of(run, chosen()) is None
