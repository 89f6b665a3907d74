"""Facts, checks and the stratified split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dltrain.data.arrays import (
    Arrays,
    check_arrays,
    check_facts,
    check_split_sizes,
    hold_out,
    stratified_split,
)

FACTS = check_facts(3, [1, 2, 2], [0.5], [0.25])


@given(
    targets=st.lists(st.integers(0, 5), min_size=1, max_size=80),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_split_is_exact_disjoint_and_fair_to_every_class(targets, fraction, seed):
    labels = np.array(targets, np.int64)
    num_held_out = round(fraction * len(labels))
    kept, held_out = stratified_split(labels, num_held_out, seed=seed)
    assert len(held_out) == num_held_out
    assert sorted([*kept, *held_out]) == list(range(len(labels)))
    for label in set(targets):
        share = targets.count(label) * num_held_out / len(targets)
        assert abs((labels[held_out] == label).sum() - share) < 1


def test_split_of_a_seed_never_changes():
    _, held_out = stratified_split(np.arange(30) % 3, 6, seed=7)
    assert held_out.tolist() == [1, 2, 9, 13, 17, 18]


def test_another_seed_gives_another_split():
    targets = np.arange(1000) % 10
    first, second = (stratified_split(targets, 100, seed=seed)[1] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_held_out_samples_keep_their_labels():
    targets = np.arange(50, dtype=np.int64) % 5
    arrays = Arrays((targets * 10).astype(np.uint8).reshape(50, 1, 1, 1), targets)
    for part, size in zip(hold_out(arrays, 11, seed=0), (39, 11), strict=True):
        assert len(part.targets) == size
        assert (part.inputs[:, 0, 0, 0] == part.targets * 10).all()


@pytest.mark.parametrize("num_val", [-1, 50, 2.5, True])
def test_impossible_num_val_is_refused(num_val):
    arrays = Arrays(np.zeros((50, 1, 2, 2), np.uint8), np.zeros(50, np.int64))
    with pytest.raises(ValueError, match=r"dataset\.num_val is .* from 0 to 49"):
        hold_out(arrays, num_val, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
def test_impossible_split_seed_is_refused(seed):
    with pytest.raises(ValueError, match=r"dataset\.split_seed"):
        check_split_sizes(10, 0, 0, seed=seed)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ((0, [1, 2, 2], [0.5], [1.0]), "num_classes is 0"),
        ((2, [2, 2], [0.5], [1.0]), "image_shape is"),
        ((2, [1, 0, 2], [0.5], [1.0]), "image_shape is"),
        ((2, [3, 2, 2], [0.5, 0.5], [1.0]), r"mean is \[0.5, 0.5\]; it must hold 3 numbers"),
        ((2, [1, 2, 2], [0.5], [0.0]), "std is .* > 0"),
        ((2, [1, 2, 2], [float("nan")], [1.0]), "mean is"),
        ((2, [1, 2, 2], ["a"], [1.0]), "mean is"),
    ],
)
def test_contradictory_facts_are_refused(facts, message):
    with pytest.raises(ValueError, match=message):
        check_facts(*facts)


@pytest.mark.parametrize(
    ("shape", "targets", "message"),
    [
        ((2, 1, 2, 2), [0, 3], "labels from 0 to 3, but with dataset.num_classes 3 .* from 0 to 2"),
        ((2, 1, 2, 2), [-1, 0], "labels from -1"),
        ((2, 3, 2, 2), [0, 1], r"shape \[3, 2, 2\], but dataset.image_shape is \[1, 2, 2\]"),
        ((0, 1, 2, 2), [], "no sample"),
    ],
)
def test_arrays_that_contradict_the_facts_are_refused(shape, targets, message):
    arrays = Arrays(np.zeros(shape, np.uint8), np.array(targets, np.int64))
    with pytest.raises(ValueError, match=message):
        check_arrays(arrays, FACTS, "here")
