"""Mistakes in `sweep.halving` and `sweep.optuna` are found before anything is imported."""

import pytest
from omegaconf import OmegaConf

from dltrain.config.sweep import check_sweep
from dltrain.errors import UserError


@pytest.mark.parametrize(
    ("group", "name", "value", "message"),
    [
        ("halving", "eta", 1, "sweep.halving.eta is 1; it must be a whole number from 2"),
        ("halving", "eta", 2.5, "sweep.halving.eta is 2.5; it must be a whole number from 2"),
        ("halving", "first", "0.5 epochs", "it must be a whole number of epochs or steps"),
        ("halving", "first", "5%", "sweep.halving.first is '5%'; it has the unit '%'"),
        ("halving", "first", 3, "it has no unit; write `500 steps` or `2 epochs`"),
        ("halving", "frist", 3, "`sweep.halving.frist`; did you mean `first`?"),
        ("optuna", "trials", 0, "sweep.optuna.trials is 0; it must be a whole number from 1"),
        ("optuna", "trials", "many", "sweep.optuna.trials is 'many'; it must be a whole number"),
        ("optuna", "sampler", "cmaes", "optuna keeps its state as a pickle"),
        ("optuna", "sampler", "tpee", "sweep.optuna.sampler is 'tpee'; it must be one of tpe"),
        ("optuna", "sampler", ["tpe"], "it must be one of tpe"),
        ("optuna", "pruner", "medain", "sweep.optuna.pruner is 'medain'; it must be one of none"),
        ("optuna", "sampler_args", 3, "sweep.optuna.sampler_args is 3; it must map names"),
        ("optuna", "pruner_args", {"x": [1]}, "it must map names to values"),
        ("optuna", "seed", -1, "sweep.optuna.seed is -1"),
        ("optuna", "objectives", [], "it must be a list of different names"),
        ("optuna", "objectives", ["loss/val", "loss/val"], "it must be a list of different names"),
        ("optuna", "objectives", ["accuracy/test"], "the test data are for the end"),
        ("optuna", "objectives", ["acuracy"], "'acuracy' is neither a metric"),
        ("optuna", "directions", ["up"], "it must be a list of max or min"),
        ("optuna", "space", "lr", "it must map keys to what they take"),
        ("optuna", "trails", 3, "`sweep.optuna.trails`; did you mean `trials`?"),
    ],
)
def test_a_mistake_is_a_sentence(group, name, value, message):
    with pytest.raises(UserError) as caught:
        check_sweep(OmegaConf.create({group: {name: value}}))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_not_said_is_as_in_the_yaml():
    found = check_sweep(OmegaConf.create({"optuna": {"trials": 7}}))
    assert found["optuna"]["trials"] == 7
    assert found["optuna"]["sampler"] == "tpe"
    assert found["halving"] == {"first": "1 epoch", "eta": 3}
