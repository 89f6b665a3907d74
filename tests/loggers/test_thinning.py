"""Thinned curves stay small, keep their extremes, and do not depend on where a run was resumed."""

import json
import math
import random

import pytest

from dltrain.loggers.thinning import Thinning


def feed(thinning, steps, value):
    rows = []
    for step in steps:
        rows += thinning.add(step, {"loss": value(step)}, float(step))
    return rows


def noise(step):
    return random.Random(step).random()


def points(rows):
    return [(step, values["loss"]) for step, _, values in rows if "loss" in values]


def test_ten_thousand_steps_become_a_thousand_points_at_most():
    thinning = Thinning(40)
    rows = feed(thinning, range(1, 10_001), noise) + thinning.drain("last")
    steps = [step for step, _ in points(rows)]
    assert len(steps) <= 1000
    assert steps == sorted(set(steps))
    assert steps[:79] == list(range(1, 80))
    assert steps[-1] == 10_000


def test_every_window_has_its_extremes():
    thinning = Thinning(40)
    kept = dict(points(feed(thinning, range(1, 5001), noise) + thinning.drain()))
    windows = {}
    for step in range(1, 5001):
        windows.setdefault(thinning.begin_of_window(step), []).append(step)
    for steps in windows.values():
        values = {step: noise(step) for step in steps}
        assert min(values.values()) in {kept.get(step) for step in steps}
        assert max(values.values()) in {kept.get(step) for step in steps}
    assert max(len(steps) for steps in windows.values()) == 64


def test_a_single_spike_and_a_single_nan_are_shown():
    thinning = Thinning(40)
    value = {7013: 1e6, 8027: math.nan}
    rows = feed(thinning, range(1, 10_001), lambda step: value.get(step, 0.5))
    kept = dict(points(rows))
    assert kept[7013] == 1e6
    assert math.isnan(kept[8027])


def test_what_is_logged_now_and_then_is_shown_at_once_and_whole():
    thinning = Thinning(40)
    for step in range(50, 2560, 50):
        assert thinning.add(step, {"loss": 1.0}, 0.0)[-1][0] == step


@pytest.mark.parametrize("stop", [1, 79, 80, 1000, 1003, 2999])
def test_a_resumed_curve_has_the_same_points(stop):
    whole = Thinning(40)
    expected = feed(whole, range(1, 3001), noise) + whole.drain("last")
    first = Thinning(40)
    rows = feed(first, range(1, stop + 1), noise)
    state = json.loads(json.dumps(first.state_dict(), allow_nan=False))
    second = Thinning(40)
    second.load_state_dict(state)
    rows += feed(second, range(stop + 1, 3001), noise) + second.drain("last")
    assert rows == expected


def test_curves_of_different_density_do_not_disturb_each_other():
    alone, together = Thinning(4), Thinning(4)
    rows = []
    for step in range(1, 300):
        values = {"loss": noise(step)} | ({"lr": 1.0} if step % 50 == 0 else {})
        rows += together.add(step, values, 0.0)
    assert points(rows) == points(feed(alone, range(1, 300), noise))
    assert [step for step, _, values in rows if "lr" in values] == [50, 100, 150, 200, 250]
