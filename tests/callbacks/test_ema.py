"""The average is the formula's and torch's, survives a resume, and leaves training alone."""

import copy

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dltrain.callbacks.ema import EMA


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(first, second):
    torch.testing.assert_close(dict(first), dict(second), rtol=0, atol=0)


def start(run, **arguments):
    ema = EMA(**({"decay": 0.9, "every": 1, "warmup": False} | arguments))
    ema.on_fit_start(run)
    return ema


def test_it_is_torchs_averaged_model_bit_for_bit(run):
    reference = AveragedModel(run.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    ema = start(run)
    for _ in range(5):
        run.train(ema)
        reference.update_parameters(run.model)
    theirs, ours = weights_of(reference.module), weights_of(ema.model)
    # torch averages the integer count of batches too, and rounds; ours is copied.
    assert ours.pop("1.num_batches_tracked") == 5
    del theirs["1.num_batches_tracked"]
    assert_equal(ours, theirs)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("warmup", [False, True])
def test_it_is_the_formula(run, every, warmup):
    ema = start(run, every=every, warmup=warmup)
    expected, num_averages = None, 0
    for step in range(1, 13):
        run.train(ema)
        weights = weights_of(run.model)
        if expected is None:
            expected, num_averages = weights, 1
        elif step % every == 0:
            decay = 0.9**every
            if warmup:
                decay = min(decay, (1 + num_averages) / (10 + num_averages))
            for name, value in weights.items():
                averaged = value.is_floating_point()
                mean = decay * expected[name] + (1 - decay) * value if averaged else value
                expected[name] = mean
            num_averages += 1
        torch.testing.assert_close(weights_of(run.eval_model), expected)
    assert num_averages == (12 if every == 1 else 5)


def test_training_does_not_see_it(run, tmp_path):
    other = copy.deepcopy(run)
    ema = start(run)
    run.train(ema, 5)
    other.train(start(other, decay=0.5), 5)
    assert_equal(run.model.state_dict(), other.model.state_dict())
    assert not any(parameter.requires_grad for parameter in run.eval_model.parameters())
    assert all(parameter.requires_grad for parameter in run.model.parameters())
    assert run.model.training


@pytest.mark.parametrize("resume_at", [1, 4])
def test_resumed_equals_uninterrupted(run, resume_at):
    whole = copy.deepcopy(run)
    whole_ema = start(whole, every=2, warmup=True)
    whole.train(whole_ema, 9)

    ema = start(run, every=2, warmup=True)
    run.train(ema, resume_at)
    state = copy.deepcopy(ema.state_dict())
    resumed_ema = start(run, every=2, warmup=True)  # on_fit_start, then the state: trainer's order
    resumed_ema.load_state_dict(state)
    run.train(resumed_ema, 9 - resume_at)
    assert_equal(run.eval_model.state_dict(), whole.eval_model.state_dict())


def test_an_average_that_begins_with_a_resume_begins_with_the_loaded_weights(run):
    ema = start(run, every=4)
    loaded = {name: torch.full_like(value, 2) for name, value in run.model.state_dict().items()}
    run.model.load_state_dict(loaded)
    run.step = 5
    ema.after_update(run)
    assert_equal(run.eval_model.state_dict(), loaded)


def test_tied_weights_stay_tied(run):
    tied = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    run.model = tied
    ema = start(run)
    assert ema.model[1].weight is ema.model[0].weight
    assert sorted(ema.state_dict()["model"]) == ["0.bias", "0.weight", "1.bias"]


def test_a_compiled_model_is_averaged_without_its_wrapper(run):
    plain = run.model
    run.model = torch.compile(plain, backend="eager")
    ema = start(run)
    assert type(ema.model) is type(plain)
    assert list(ema.state_dict()["model"]) == [
        *dict(plain.named_parameters()),
        *dict(plain.named_buffers()),
    ]


def test_the_average_of_another_model_is_refused(run):
    state = start(run).state_dict()
    run.model = torch.nn.Linear(4, 8)
    with pytest.raises(ValueError, match=r"another model \(0\.bias differs, 11 of 11 in all"):
        start(run).load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 1.0}, r"decay is 1\.0; it must be > 0 and < 1"),
        ({"decay": 0}, r"decay is 0; it must be"),
        ({"every": 0}, r"every is 0; it must be >= 1"),
    ],
)
def test_impossible_arguments_are_refused(run, arguments, message):
    with pytest.raises(ValueError, match=message):
        start(run, **arguments)
