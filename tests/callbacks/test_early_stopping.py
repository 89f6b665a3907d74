"""It stops after exactly `patience` evaluations without improvement, resumed or not."""

import pytest

from dltrain.callbacks.early_stopping import EarlyStopping

NAN = float("nan")


def make(**arguments):
    defaults = {"monitor": "accuracy/val", "mode": "max", "patience": 2, "min_delta": 0.0}
    return EarlyStopping(**(defaults | arguments))


def evaluations_until_stop(run, stopping, values, *, resume_at=None):
    for number, value in enumerate(values, start=1):
        if number == resume_at:
            state, stopping = stopping.state_dict(), make()
            stopping.load_state_dict(state)
        stopping.on_evaluate(run, "val", {"loss": 0.0, "accuracy": value})
        if run.should_stop:
            return number
    return None


@pytest.mark.parametrize(
    ("arguments", "values", "stops_at"),
    [
        ({}, [0.1, 0.2, 0.3, 0.4], None),
        ({}, [0.1, 0.2, 0.2, 0.2, 0.9], 4),  # the best again is no improvement
        ({}, [0.1, 0.0, 0.2, 0.0, 0.3], None),
        ({"mode": "min"}, [0.1, 0.2, 0.05, 0.06, 0.07], 5),
        ({"min_delta": 0.1}, [0.5, 0.55, 0.59], 3),
        ({"min_delta": 0.1}, [0.5, 0.55, 0.61, 0.7, 0.7], 5),
        ({"patience": 1}, [0.5, 0.4], 2),
        ({}, [NAN, NAN, 0.9], 2),
        ({}, [0.5, NAN, NAN], 3),
        ({"mode": "min"}, [NAN, 0.5, NAN, 0.4, NAN, NAN], 6),
    ],
)
def test_it_stops_when_it_should(run, arguments, values, stops_at):
    assert evaluations_until_stop(run, make(**arguments), values) == stops_at


@pytest.mark.parametrize("resume_at", [2, 3, 4])
def test_resumed_equals_uninterrupted(run, resume_at):
    values = [0.1, 0.2, 0.1, 0.2, 0.9]
    assert evaluations_until_stop(run, make(), values, resume_at=resume_at) == 4


def test_the_reason_says_what_and_how_long(run):
    evaluations_until_stop(run, make(), [0.98, 0.5, 0.5])
    assert run.should_stop == "early stopping: accuracy/val not better than 0.98 in 2 evaluations"


def test_other_splits_do_not_count(run):
    stopping = make(patience=1)
    for _ in range(5):
        stopping.on_evaluate(run, "test", {"accuracy": 0.1})
    assert not run.should_stop


def test_an_unknown_metric_is_named_with_those_there_are(run):
    with pytest.raises(ValueError, match=r"monitor is acc/val; it must be one of loss/val, acc"):
        make(monitor="acc/val").on_evaluate(run, "val", {"loss": 1.0, "accuracy": 0.5})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"monitor": "accuracy"}, "must name a metric and its split"),
        ({"mode": "maximum"}, "mode is maximum; it must be max or min"),
        ({"patience": 0}, "patience is 0; it must be >= 1"),
        ({"min_delta": -0.1}, "min_delta is -0.1; it must be >= 0"),
        ({"min_delta": NAN}, "min_delta is nan; it must be >= 0"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
