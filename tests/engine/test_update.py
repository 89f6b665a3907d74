"""What reaches the weights, and what never does."""

import math

import pytest
import torch
from torch import nn

from dltrain.engine.guard import DeviceGuard, HostGuard, ScalerGuard, refuse_nan
from dltrain.engine.tensors import snapshot
from dltrain.engine.update import ScaledUpdate, Update
from dltrain.errors import NonFiniteError


def tiny(norm=False):
    torch.manual_seed(0)
    layers = [nn.Linear(4, 8), *([nn.BatchNorm1d(8)] if norm else []), nn.ReLU(), nn.Linear(8, 3)]
    return nn.Sequential(*layers)


def make_update(model, *, skip=False, on_device=False, clip=None, lr=0.1):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
    guard = (
        DeviceGuard(model, optimizer, skip=skip)
        if on_device
        else HostGuard(model, torch.device("cpu"), skip=skip)
    )
    return Update(
        model, optimizer, schedule=lambda progress: 1.0 - progress, guard=guard, clip=clip
    )


def take_step(model, update, seed, *, poison=None, progress=0.0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(6, 4, generator=generator)
    labels = torch.randint(0, 3, (6,), generator=generator)
    loss = nn.functional.cross_entropy(model(inputs), labels)
    if poison == "loss":
        loss = loss * math.nan
    update.backward(loss)
    if poison == "gradient":
        next(model.parameters()).grad[0, 0] = math.inf
    update(progress)


def state_of(model, update):
    tensors = {k: v.clone() for k, v in model.state_dict().items()}
    for key, values in update.state_dict()["state"].items():
        tensors |= {f"{key}.{name}": value.clone() for name, value in values.items()}
    return tensors


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_skipped_step_leaves_no_trace(poison, on_device):
    """With `skip`, good steps around a bad one give exactly what they give without it."""
    results = []
    for bad in (None, poison):
        model = tiny(norm=True)
        update = make_update(model, skip=True, on_device=on_device)
        take_step(model, update, 1)
        if bad:
            take_step(model, update, 2, poison=bad)
        take_step(model, update, 3)
        results.append(state_of(model, update))
    assert_equal(*results)


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_bad_number_stops_before_it_reaches_the_weights(poison):
    model = tiny()
    update = make_update(model)
    take_step(model, update, 1)
    before = state_of(model, update)
    with pytest.raises(NonFiniteError, match="nan" if poison == "loss" else "gradient"):
        take_step(model, update, 2, poison=poison)
    assert_equal(state_of(model, update), before)


def test_on_a_device_nothing_changes_between_the_bad_step_and_the_check():
    model = tiny()
    update = make_update(model, on_device=True)
    take_step(model, update, 1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    take_step(model, update, 2, poison="gradient")
    take_step(model, update, 3)
    assert_equal(dict(model.state_dict()), before)
    with pytest.raises(NonFiniteError) as caught:
        update.guard.check()
    assert caught.value.steps_ago == 2


def scaled(model, *, skip):
    """The update of fp16, whose scaler works on a CPU as well."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    guard = ScalerGuard(model, optimizer, torch.device("cpu"), skip=skip)
    return ScaledUpdate(model, optimizer, schedule=lambda progress: 1.0, guard=guard)


def test_in_fp16_a_bad_loss_is_skipped_without_a_trace_and_counted():
    results = []
    for bad in (None, "loss"):
        model = tiny(norm=True)
        update = scaled(model, skip=True)
        take_step(model, update, 1)
        if bad:
            take_step(model, update, 2, poison=bad)
            update.guard.scaler.update(2.0**16)  # a bad loss halves the scale, as an overflow does
        take_step(model, update, 3)
        update.guard.check()
        assert update.guard.num_skipped == (1 if bad else 0)
        results.append(state_of(model, update))
    assert_equal(*results)


def test_in_fp16_a_bad_loss_ends_the_run_and_an_overflow_does_not():
    model = tiny(norm=True)
    update = scaled(model, skip=False)
    take_step(model, update, 1, poison="gradient")
    update.guard.check()
    take_step(model, update, 2, poison="loss")
    with pytest.raises(NonFiniteError):
        update.guard.check()


def test_a_guard_takes_the_state_of_another_precision():
    model = tiny()
    one, other = scaled(model, skip=True), make_update(model, skip=True, on_device=True)
    host = make_update(model, skip=True)
    for source, target in ((one, host), (host, one), (one, other), (other, host)):
        source.guard.check()
        target.guard.load_state_dict(source.guard.state_dict())


def test_both_guards_give_the_same_weights():
    results = []
    for on_device in (False, True):
        model = tiny(norm=True)
        update = make_update(model, skip=True, on_device=on_device)
        for seed in range(5):
            take_step(model, update, seed, poison="loss" if seed == 2 else None)
        results.append(state_of(model, update))
    assert_equal(*results)


def test_too_many_bad_steps_in_a_row_end_the_run(monkeypatch):
    monkeypatch.setattr("dltrain.engine.guard.MAX_SKIPPED_IN_A_ROW", 3)
    model = tiny()
    update = make_update(model, skip=True)
    take_step(model, update, 0, poison="loss")
    take_step(model, update, 1)
    take_step(model, update, 2, poison="loss")
    take_step(model, update, 3, poison="loss")
    with pytest.raises(NonFiniteError, match="3 steps in a row"):
        take_step(model, update, 4, poison="loss")


def test_the_schedule_scales_the_lr_of_every_group():
    model = tiny()
    update = make_update(model, lr=0.2)
    take_step(model, update, 0, progress=0.25)
    assert update.lr == pytest.approx(0.15)


def test_the_optimizer_state_survives_by_name():
    first, second = tiny(), tiny()
    update = make_update(first)
    take_step(first, update, 0)
    take_step(first, update, 1)
    other = make_update(second)
    second.load_state_dict(first.state_dict())
    other.load_state_dict(snapshot(update.state_dict()))
    take_step(first, update, 2)
    take_step(second, other, 2)
    assert_equal(state_of(first, update), state_of(second, other))


def test_an_evaluation_whose_loss_is_nan_ends_the_run():
    refuse_nan(None, "val", {"loss": 1.0, "accuracy": 0.1})
    refuse_nan(None, "val", {})
    with pytest.raises(NonFiniteError, match="the loss on val is nan"):
        refuse_nan(None, "val", {"loss": math.nan, "accuracy": 0.1})
