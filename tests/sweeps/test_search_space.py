"""What a search may try, in Hydra's grammar, and the conditions between its parameters."""

import pytest
from search_files import space

from dltrain.errors import UserError
from dltrain.sweeps.search_space import Parameter, grid_size, holds, in_order


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optimizer.lr=interval(0.1,1)", Parameter("optimizer.lr", low=0.1, high=1.0)),
        ("lr=tag(log,interval(1e-5,0.1))", Parameter("lr", low=1e-5, high=0.1, log=True)),
        ("w=int(interval(1,8))", Parameter("w", low=1, high=8, whole=True)),
        ("w=tag(log,int,interval(1,8))", Parameter("w", low=1, high=8, whole=True, log=True)),
        ("w=range(1,10,3)", Parameter("w", low=1, high=7, step=3, whole=True)),
        ("w=range(10,1,-3)", Parameter("w", low=4, high=10, step=3, whole=True)),
        ("d=range(0,1,0.25)", Parameter("d", low=0, high=0.75, step=0.25)),
        ("w=range(3,4)", Parameter("w", choices=("3",))),
        ("model=mlp,cnn", Parameter("model", choices=("mlp", "cnn"))),
        ("+w=choice(1,[2,3],'a b')", Parameter("+w", choices=("1", "[2,3]", "a\\ b"))),
        ("model=glob(*,exclude=mlp)", Parameter("model", choices=("cnn",))),
    ],
)
def test_hydras_grammar(text, expected):
    assert space(text) == [expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr=interval(1,0)", r"lr: interval\(1,0\) is empty"),
        ("lr=tag(log,interval(0,1))", "lr: .* with the tag log must begin above 0"),
        ("lr=tag(lgo,interval(1,2))", "lr: there is no tag `lgo`"),
        ("w=tag(int,interval(1.5,2))", "w: .* must have whole numbers"),
        ("w=range(5,1)", "w: the range gives no value"),
        ("w=tag(log,range(1,5))", r"write tag\(log, int\(interval\(1,4\)\)\)"),
        ("model=glob(zz*)", "`model=glob.*` gives no value"),
    ],
)
def test_a_mistake_is_one_sentence(text, message):
    with pytest.raises(UserError, match=message):
        space(text)


def test_a_range_without_end_costs_nothing():
    assert space("w=range(0,1e15)")[0].num_values() == 10**15


def test_a_drawn_number_has_few_digits_and_stays_inside():
    lr = Parameter("lr", low=1.23456789e-5, high=0.98765432)
    assert lr.text(0.0031415926535) == "0.00314159"
    assert float(lr.text(lr.low)) >= lr.low
    assert float(lr.text(lr.high)) <= lr.high
    assert Parameter("d", low=0.0, high=0.9, step=0.1).text(0.1 * 3) == "0.3"


def test_what_a_condition_asks_for_comes_first():
    parameters = space("a=1,2", "b=1,2", "model=mlp,cnn", a="b=2", b="model=cnn optimizer=sgd,adam")
    assert [each.name for each in in_order(parameters, {"optimizer": "sgd"})] == ["model", "b", "a"]
    b = parameters[1]
    assert holds(b, {"model": "cnn", "optimizer": "adam"})
    assert not holds(b, {"model": "cnn", "optimizer": "adamw"})
    assert not holds(b, {"optimizer": "sgd"})


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"a": "b=1", "b": "a=1"}, "wait for one another"),
        ({"a": "c=1"}, "a is to be tried when c=1, and there is no `c`"),
        ({"a": "b"}, "a: its condition `b` must look like model=cnn"),
    ],
)
def test_a_condition_that_cannot_be_is_named(conditions, message):
    with pytest.raises(UserError, match=message):
        in_order(space("a=1,2", "b=1,2", **conditions), {})


def test_a_parameter_that_is_given_twice_is_named():
    with pytest.raises(UserError, match="lr is given twice"):
        in_order(space("lr=1,2", "+lr=3,4"), {})


def test_a_grid_has_an_end():
    assert grid_size(space("a=1,2,3", "b=range(0,1,0.25)", "c=int(interval(1,5))")) == 60
    for parameters in (
        space("a=interval(0,1)"),
        space("a=1,2", "b=1,2", b="a=1"),
        space("a=range(0,1000)", "b=range(0,1000)"),
    ):
        with pytest.raises(UserError, match=r"sweep\.optuna\.sampler is grid"):
            grid_size(parameters)
