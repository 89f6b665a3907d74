"""What a search draws from: intervals, numbers in a row, names, and keys that go together."""

import pytest
from search_files import space

from dltrain.errors import UserError
from dltrain.sweeps.search_space import Parameter, grid_size


def rows(key, *values):
    return tuple({key: value} for value in values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=interval(0.1,1)", Parameter("lr", low=0.1, high=1.0)),
        ("lr=tag(log,interval(1e-5,0.1))", Parameter("lr", low=1e-5, high=0.1, log=True)),
        ("w=int(interval(1,8))", Parameter("w", low=1, high=8, whole=True)),
        ("w=range(1,10,3)", Parameter("w", low=1, high=7, step=3, whole=True)),
        ("w=range(10,1,-3)", Parameter("w", low=4, high=10, step=3, whole=True)),
        ("d=range(0,1,0.25)", Parameter("d", low=0, high=0.75, step=0.25)),
        ("w=range(3,4)", Parameter("w", rows("w", "3"))),
        ("w=1,2,3", Parameter("w", rows("w", "1", "2", "3"))),
        ("model=mlp,cnn", Parameter("model", rows("model", "mlp", "cnn"))),
        ("+w=choice(1,[2,3],'a b')", Parameter("+w", rows("+w", "1", "[2,3]", "'a b'"))),
    ],
)
def test_hydras_grammar(text, expected):
    assert space(text)[0] == [expected]


def test_keys_that_are_paired_are_one_parameter():
    (pair, other), _ = space("lr=0.1,0.2", "batch=1,2", "w=3,4", pairs=["lr", "batch"])
    assert pair.rows == ({"lr": "0.1", "batch": "1"}, {"lr": "0.2", "batch": "2"})
    assert pair.labels == ["lr=0.1 batch=1", "lr=0.2 batch=2"]
    assert pair.row(pair.labels[1]) == pair.rows[1]
    assert other.labels == ["3", "4"]


def test_a_drawn_number_has_few_digits_and_stays_inside():
    lr = Parameter("lr", low=1.23456789e-5, high=0.98765432)
    assert lr.row(0.0031415926535) == {"lr": "0.00314159"}
    assert float(lr.row(lr.low)["lr"]) >= lr.low
    assert float(lr.row(lr.high)["lr"]) <= lr.high
    assert Parameter("d", low=0.0, high=0.9, step=0.1).row(0.1 * 3) == {"d": "0.3"}


def test_what_a_condition_asks_for_comes_first():
    found, kept = space("a=1,2", "b=1,2", "model=mlp,cnn", when={"a": "b=2", "b": "model=cnn"})
    assert [each.name for each in found] == ["model", "b", "a"]
    assert [each.conditional for each in found] == [False, True, True]
    assert kept({"b": "1"}, {"model": "cnn"})
    assert not kept({"b": "1"}, {"model": "mlp"})


def test_a_grid_has_an_end():
    parameters, _ = space("a=1,2,3", "b=range(0,1,0.25)", "c=int(interval(1,5))")
    assert grid_size(parameters) == 60
    assert [each.values() for each in parameters] == [
        ["1", "2", "3"], [0, 0.25, 0.5, 0.75], [1, 2, 3, 4, 5]
    ]  # fmt: skip
    for parameters, _ in (
        space("a=interval(0,1)"),
        space("a=1,2", "b=1,2", when={"b": "a=1"}),
        space("a=range(0,1000)", "b=range(0,1000)"),
    ):
        with pytest.raises(UserError, match=r"sweep\.optuna\.sampler is grid"):
            grid_size(parameters)
