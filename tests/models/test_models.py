"""What holds for every model: parts, gradients, determinism, vectors and images of every size."""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F

from dltrain.models.cnn import CNN
from dltrain.models.linear import Linear
from dltrain.models.mlp import ACTIVATIONS, MLP
from dltrain.models.resnet import ResNet


def linear(shape=(1, 8, 8)):
    return Linear(input_shape=shape, num_classes=10)


def mlp(shape=(1, 8, 8), **options):
    return MLP(input_shape=shape, num_classes=10, **{"hidden_sizes": [32, 16], **options})


def cnn(shape=(1, 8, 8), **options):
    return CNN(input_shape=shape, num_classes=10, **{"widths": [8, 16, 32], **options})


def resnet(shape=(1, 8, 8), **options):
    return ResNet(input_shape=shape, num_classes=10, **{"depth": 8, **options})


EVERY = pytest.mark.parametrize("make", [linear, mlp, cnn, resnet])


@EVERY
def test_forward_is_head_of_features_and_features_are_stages_of_stem(make):
    model, x = make().eval(), torch.randn(4, 1, 8, 8)
    features = model.features(x)
    assert torch.equal(features, model.stages(model.stem(x)))
    assert torch.equal(model(x), model.head(features))
    assert model(x).shape == (4, 10)


@EVERY
def test_every_parameter_gets_a_gradient(make):
    model = make()
    if make is linear:  # zeros at first: its gradients are not, from any input
        assert all((p == 0).all() for p in model.parameters())
    F.cross_entropy(model(torch.randn(8, 1, 8, 8)), torch.arange(8)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@EVERY
def test_evaluation_is_deterministic_and_knows_no_batch(make):
    options = {} if make is linear else {"dropout": 0.5}
    model, x = make(**options).eval(), torch.randn(6, 1, 8, 8)
    with torch.no_grad():
        whole = model(x)
        assert torch.equal(whole, model(x))
        torch.testing.assert_close(model(x[2:3]), whole[2:3])


@EVERY
def test_same_seed_gives_same_weights(make):
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(make().state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@EVERY
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (3, 32, 48), (4, 64, 64)])
def test_reads_images_of_any_size_and_number_of_channels(make, shape):
    assert make(shape)(torch.randn(2, *shape)).shape == (2, 10)


@EVERY
def test_one_batch_can_be_overfitted(make):
    torch.manual_seed(0)
    model = make((3, 8, 8))
    x, labels = torch.randn(16, 3, 8, 8), torch.arange(16) % 10
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("make", [mlp, cnn, resnet])
def test_dropout_acts_in_training_and_leaves_the_names_alone(make):
    without, model = make(), make(dropout=0.5)
    assert list(without.state_dict()) == list(model.state_dict())
    assert not [m for m in without.modules() if isinstance(m, torch.nn.Dropout)]  # costs nothing
    x = torch.randn(4, 1, 8, 8)
    assert not torch.equal(model(x), model(x))
    without.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.eval()(x), without.eval()(x))


@pytest.mark.parametrize("make", [mlp, cnn, resnet])
def test_dropout_outside_its_range_is_refused(make):
    with pytest.raises(ValueError, match="dropout"):
        make(dropout=1.5)


@pytest.mark.parametrize("make", [linear, mlp])
def test_vectors_are_read_by_linear_and_mlp(make):
    assert make((2,))(torch.randn(5, 2)).shape == (5, 10)


@pytest.mark.parametrize("make", [cnn, resnet])
def test_vectors_are_refused_by_what_reads_images(make):
    with pytest.raises(ValueError, match=r"\[2\].*\[channels, height, width\].*model=mlp"):
        make((2,))


def test_cnn_refuses_images_that_it_would_halve_to_nothing():
    with pytest.raises(ValueError, match="3x9; each side must have at least 4"):
        cnn((1, 3, 9))
    assert cnn((1, 4, 4))(torch.randn(2, 1, 4, 4)).shape == (2, 10)


@pytest.mark.parametrize("widths", [[], [8, 0]])
def test_cnn_refuses_widths_without_channels(widths):
    with pytest.raises(ValueError, match=r"model\.widths"):
        cnn(widths=widths)


def test_cnn_halves_the_map_between_stages():
    assert cnn(widths=[8, 16, 32]).features(torch.randn(2, 1, 28, 28)).shape == (2, 32, 7, 7)


def test_linear_starts_at_uniform_probabilities():
    loss = F.cross_entropy(linear()(torch.randn(4, 1, 8, 8)), torch.arange(4))
    assert loss.item() == pytest.approx(math.log(10))


def test_mlp_has_the_sizes_it_was_asked_for():
    model = MLP(input_shape=(1, 28, 28), num_classes=10, hidden_sizes=[256, 256])
    assert sum(p.numel() for p in model.parameters()) == 269_322  # 785·256 + 257·256 + 257·10
    assert len(model.stages) == 2
    assert mlp(hidden_sizes=[]).features(torch.randn(2, 1, 8, 8)).shape == (2, 64)


def test_mlp_activations_are_known_by_name():
    x = torch.randn(4, 1, 8, 8)
    for name in ACTIVATIONS:
        assert mlp(activation=name)(x).isfinite().all()
    with pytest.raises(ValueError, match=r"model\.activation is 'rleu'.*relu"):
        mlp(activation="rleu")
    with pytest.raises(ValueError, match=r"model\.hidden_sizes is \[16, 0\]"):
        mlp(hidden_sizes=[16, 0])


@pytest.mark.parametrize("cls", [Linear, MLP, CNN, ResNet])
def test_constructors_take_keywords_only(cls):
    parameters = list(inspect.signature(cls).parameters.values())
    assert {p.kind for p in parameters} == {inspect.Parameter.KEYWORD_ONLY}
