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
        run.metrics = {"loss/val": 0.0, "accuracy/val": value}
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


def test_a_metric_of_training_is_watched_from_when_it_is_there(run):
    stopping = make(monitor="loss/train", mode="min", patience=1)
    for metrics in ({"loss/val": 1.0}, {"loss/train": 2.0}, {"loss/train": 3.0}):
        assert not run.should_stop
        run.metrics = metrics
        stopping.on_evaluate(run, "val", {})
    assert run.should_stop


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
