"""Circles and synthetic data: made by seed, of the sizes asked for, and learnable."""

import math

import numpy as np
import pytest
from data_files import peak_memory

import dltrain.data.circles as circles
import dltrain.data.synthetic as synthetic
from dltrain.data.arrays import Arrays
from dltrain.data.circles import Circles
from dltrain.data.synthetic import Synthetic


def make_circles(**options) -> Circles:
    facts = {"num_classes": 2, "image_shape": [2], "mean": [0.0, 0.0], "std": [1.0, 1.0]}
    sizes = {"num_samples": 1000, "num_val": 100, "num_test": 500, "split_seed": 0}
    ring = {"radii": [1.0, 2.0], "noise": 0.1, "coordinates": "cartesian"}
    return Circles(**(facts | sizes | ring | options))


def make_synthetic(**options) -> Synthetic:
    facts = {"num_classes": 10, "image_shape": [3, 16, 12], "mean": [0.5], "std": [0.2]}
    sizes = {"num_samples": 1000, "num_val": 0, "num_test": 200, "split_seed": 0}
    return Synthetic(**(facts | sizes | options))


def linear_accuracy(splits: dict[str, Arrays]) -> float:
    """Of the least-squares classifier, on the test set."""

    def with_bias(inputs: np.ndarray) -> np.ndarray:
        return np.column_stack([inputs.reshape(len(inputs), -1) / 100, np.ones(len(inputs))])

    train, test = splits["train"], splits["test"]
    one_hot = np.eye(train.targets.max() + 1)[train.targets]
    weights = np.linalg.lstsq(with_bias(train.inputs), one_hot, rcond=None)[0]
    return float(((with_bias(test.inputs) @ weights).argmax(1) == test.targets).mean())


@pytest.mark.parametrize("make", [make_circles, make_synthetic])
def test_sizes_labels_and_seeds(make):
    dataset = make(num_samples=77, num_val=33, num_test=11)
    splits = dataset.load()
    assert {name: len(s.targets) for name, s in splits.items()} == {
        "train": 77,
        "val": 33,
        "test": 11,
    }
    for inputs, targets in splits.values():
        assert inputs.shape[1:] == dataset.image_shape
        assert targets.dtype == np.int64
        assert set(targets) == set(range(dataset.num_classes))
    again, other = make(num_samples=77).load(), make(num_samples=77, split_seed=1).load()
    assert np.array_equal(again["train"].inputs, splits["train"].inputs)
    assert not np.array_equal(other["train"].inputs, splits["train"].inputs)
    assert len(dataset.classes) == dataset.num_classes


def test_circles_lie_on_their_radii():
    splits = make_circles(noise=0.0, radii=[0.5, 3.0]).load()
    inputs, targets = splits["train"]
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(np.hypot(*inputs.T), np.where(targets == 0, 0.5, 3.0), rtol=1e-6)


def test_polar_circles_are_the_same_points():
    cartesian = make_circles().load()["val"].inputs
    radius, angle = make_circles(coordinates="polar").load()["val"].inputs.T
    assert np.abs(angle).max() <= math.pi + 1e-6
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    np.testing.assert_allclose(points, cartesian, atol=1e-5)


def test_only_polar_circles_are_linearly_separable():
    assert linear_accuracy(make_circles().load()) < 0.6
    assert linear_accuracy(make_circles(coordinates="polar").load()) > 0.99


@pytest.mark.parametrize("image_shape", [[3, 16, 12], [1, 8, 8], [64]])
def test_synthetic_is_learnable(image_shape):
    splits = make_synthetic(image_shape=image_shape).load()
    assert splits["train"].inputs.dtype == (np.float32 if len(image_shape) == 1 else np.uint8)
    assert linear_accuracy(splits) > 0.95


def test_synthetic_matches_its_facts():
    inputs = make_synthetic().load()["train"].inputs / 255
    assert abs(inputs.mean() - 0.5) < 0.02
    assert abs(inputs.std() - 0.2) < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": [3], "mean": [0.0], "std": [1.0]}, r"points in the plane have \[2\]"),
        ({"radii": [1.0]}, "radii is .* 2 numbers"),
        ({"radii": [1.0, -1.0]}, "radii is"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"coordinates": "spherical"}, "`cartesian` or `polar`"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"num_val": -1}, "num_val is -1"),
    ],
)
def test_impossible_circles_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_circles(**options)


HUGE = 10**12


@pytest.mark.parametrize(
    "options",
    [
        {"num_samples": HUGE},
        {"num_val": HUGE},
        {"num_test": 2**63 - 1},
        {"image_shape": [10**6, 10**6, 10**6]},
        {"image_shape": [HUGE], "mean": [0.0]},
        {"num_classes": 10**7, "image_shape": [3, 224, 224]},
    ],
)
def test_more_than_the_memory_is_refused_before_it_is_taken(options):
    refused = pytest.raises(ValueError, match=r"ask for [\d,.]+ GiB of memory; this machine has")
    with peak_memory(1 << 20), refused:
        make_synthetic(**options).load()
    if "num_samples" in options:
        with peak_memory(1 << 20), refused:
            make_circles(**options).load()


@pytest.mark.parametrize("make", [make_circles, make_synthetic])
def test_what_is_announced_as_needed_is_enough(make, monkeypatch):
    """Nothing is made that takes more than was compared with the memory of the machine."""
    asked = []
    for module in (circles, synthetic):
        monkeypatch.setattr(module, "check_memory", lambda num_bytes, keys: asked.append(num_bytes))
    dataset = make(num_samples=50_000, num_val=0, num_test=0)
    with peak_memory(asked[0] + (1 << 18)):
        dataset.load()


def test_a_number_of_classes_beyond_reason_is_refused():
    with pytest.raises(ValueError, match="num_classes is 1000000000000; it must be"):
        make_synthetic(num_classes=HUGE)
