"""Runs are the same to the last bit or are said to differ, and where; a stranger's is data."""

import json
import math

import pytest
import torch

from dltrain.engine.tensors import write_tensors
from dltrain.sameness import compare_runs

ROWS = [
    {"step": 1, "epoch": 1, "split": "train", "time": 1.0, "loss": 0.5, "samples_per_sec": 9.0},
    {"step": 2, "epoch": 1, "split": "val", "time": 2.0, "loss": 0.25, "accuracy": 0.5},
    {"step": 2, "epoch": 1, "split": "test", "time": 3.0, "loss": 0.75, "accuracy": None},
]


@pytest.fixture
def make(tmp_path):
    """A function: the directory of a run with these rows and weights."""

    def run(name, rows=ROWS, weights=None):
        folder = tmp_path / name
        folder.mkdir()
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
        tensors = {"w": torch.tensor([1.0, 2.0])} if weights is None else weights
        write_tensors(folder / "model.safetensors", tensors)
        return folder

    return run


def changed(place, **values):
    return [row | values if i == place else row for i, row in enumerate(ROWS)]


def test_time_and_speed_are_no_difference(make):
    rows = [row | {"time": 9.0} for row in ROWS]
    rows[0] = rows[0] | {"samples_per_sec": 1.0, "data_share": 0.5}
    found = compare_runs(make("a"), make("b", rows), completed=True)
    assert found.same
    assert found.weights == 0
    assert found.metrics.keys() == {
        "loss/train", "loss/val", "accuracy/val", "loss/test", "accuracy/test",
    }  # fmt: skip


def test_the_last_bit_of_a_number_is_a_difference(make):
    other = math.nextafter(0.25, 1)
    found = compare_runs(make("a"), make("b", changed(1, loss=other)), completed=True)
    assert not found.same
    metric = found.metrics["loss/val"]
    assert (metric.different, metric.first_step, metric.largest) == (1, 2, other - 0.25)
    assert not found.metrics["loss/train"].different


def test_a_row_or_a_number_that_one_run_lacks_is_a_difference(make):
    runs = {
        "row": ROWS[:2],
        "number": changed(1, loss=0.25, accuracy=0.5, extra=1.0),
        "twice": [*ROWS, ROWS[2]],
    }
    whole = make("a")
    for name, rows in runs.items():
        other = make(name, rows)
        assert not compare_runs(whole, other, completed=True).same or name == "twice", name
        assert not compare_runs(other, whole, completed=True).same, name


def test_of_a_run_that_has_not_ended_what_it_has_is_compared(make):
    half, whole = make("a", ROWS[:1]), make("b")
    found = compare_runs(half, whole, completed=False)
    assert found.same
    assert found.weights is None
    assert not compare_runs(half, whole, completed=True).same


def test_of_nothing_nothing_is_the_same(make):
    assert not compare_runs(make("a", []), make("b"), completed=False).same


@pytest.mark.parametrize(
    ("tensors", "apart"),
    [
        ({"w": torch.tensor([1.0, 2.5])}, 0.5),
        ({"w": torch.tensor([1.0, math.nan])}, math.inf),
        ({"w": torch.tensor([1.0, math.inf])}, math.inf),
        ({"w": torch.tensor([1.0])}, math.inf),
        ({"w": torch.tensor([1.0, 2.0], dtype=torch.float64)}, math.inf),
        ({"v": torch.tensor([1.0, 2.0])}, math.inf),
    ],
)
def test_other_weights_are_a_difference(tensors, apart, make):
    found = compare_runs(make("a"), make("b", weights=tensors), completed=True)
    assert found.weights == apart
    assert not found.same


@pytest.mark.parametrize(
    "value",
    ['"0.25"', "1" + "0" * 400, "[0.25]", "true", "null", "NaN", '{"a": 1}'],
)
def test_a_stranger_s_numbers_are_compared_as_they_are(value, make):
    row = '{"step": 2, "epoch": 1, "split": "val", "loss": VALUE, "accuracy": 0.5}'
    row = row.replace("VALUE", value)
    found = compare_runs(make("a", [ROWS[0], row, ROWS[2]]), make("b"), completed=True)
    assert not found.same
    assert found.metrics["loss/val"].different == 1


@pytest.mark.parametrize("row", ['{"step": [], "split": "val"}', '{"split": {}}', "[]", "{", ""])
def test_what_is_no_row_is_left_out(row, make):
    found = compare_runs(make("a", [*ROWS, row]), make("b"), completed=True)
    assert found.same


def test_to_the_last_bit_is_of_bytes(make):
    """A NaN of the same bytes is the same; two zeros of other signs are not."""
    first = {"w": torch.tensor([0.0, math.nan, 3.0]), "n": torch.tensor(7)}
    apart = {
        0.0: dict(first),
        math.ulp(0.0): first | {"w": torch.tensor([-0.0, math.nan, 3.0])},
        0.5: first | {"w": torch.tensor([0.0, math.nan, 3.5])},
        1.0: first | {"n": torch.tensor(8)},
    }
    for place, (expected, tensors) in enumerate(apart.items()):
        a, b = make(f"a{place}", weights=first), make(f"b{place}", weights=tensors)
        found = compare_runs(a, b, completed=True)
        assert found.weights == expected
        assert found.same == (expected == 0.0)
    zeros = [make(f"zero {text}", [f'{{"step": 1, "split": "val", "loss": {text}}}'])
             for text in ("0.0", "-0.0", "NaN")]  # fmt: skip
    assert not compare_runs(zeros[0], zeros[1], completed=True).same
    assert compare_runs(zeros[2], zeros[2], completed=True).same
    assert compare_runs(zeros[0], zeros[2], completed=True).metrics["loss/val"].largest == math.inf
