"""The order of sets in shards: a permutation, of few shards at a time, even, and a function."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from dltrain.data.order import Order
from dltrain.data.window import windowed_permutation

SIZES = np.array([7, 3, 1, 12, 5, 5, 9, 2, 8, 4])
NUM_SAMPLES = int(SIZES.sum())
SHARD_OF = np.repeat(np.arange(len(SIZES)), SIZES)
OPTIONS = {"batch_size": 6, "shuffle": True, "seed": 3, "drop_last": False}


def order_of(epoch=0, window=3, seed=0, sizes=SIZES):
    return windowed_permutation(seed, epoch, torch.from_numpy(sizes), window).numpy()


def open_shards(shards):
    """How many shards are between their first and their last sample, at each place."""
    changes = np.zeros(len(shards) + 1, np.int64)
    for shard in np.unique(shards):
        places = np.flatnonzero(shards == shard)
        changes[places[0]] += 1
        changes[places[-1] + 1] -= 1
    return changes.cumsum()


@pytest.mark.parametrize("window", [1, 2, 3, 9, 10, 50])
def test_every_sample_comes_once(window):
    for epoch in range(20):
        assert sorted(order_of(epoch, window)) == list(range(NUM_SAMPLES))


@pytest.mark.parametrize("window", [1, 2, 3, 5, 9])
def test_at_most_a_window_of_shards_is_open(window):
    most = [open_shards(SHARD_OF[order_of(epoch, window)]).max() for epoch in range(200)]
    assert max(most) == window


def test_shards_of_one_size_follow_one_another_evenly():
    """Not all of a window at once, when a cache would have to be filled while a run waits."""
    sizes, window = np.full(40, 1000), 8
    shards = np.repeat(np.arange(40), 1000)[order_of(window=window, sizes=sizes)]
    first = np.sort([np.flatnonzero(shards == shard)[0] for shard in range(40)])
    assert first[window - 1] < 200  # it begins with many shards, as a batch should be mixed
    between = np.diff(first[2 * window : -window])
    assert 800 < between.min() <= between.max() < 1200


def test_order_depends_on_seed_and_epoch_and_nothing_else():
    orders = [
        order_of(epoch, seed=seed).tolist() for seed, epoch in itertools.product(range(3), repeat=2)
    ]
    torch.manual_seed(7)
    again = [
        order_of(epoch, seed=seed).tolist() for seed, epoch in itertools.product(range(3), repeat=2)
    ]
    assert orders == again
    assert len({tuple(order) for order in orders}) == 9


@pytest.mark.parametrize("window", [2, 5])
def test_every_sample_is_as_likely_at_every_place(window):
    """Chi-square over 12 samples in 6 shards and 4,000 epochs: 121 degrees of freedom."""
    sizes, counts = np.full(6, 2), np.zeros((12, 12))
    for epoch in range(4000):
        counts[np.arange(12), order_of(epoch, window, sizes=sizes)] += 1
    statistic = ((counts - 4000 / 12) ** 2 / (4000 / 12)).sum()
    assert stats.chi2.sf(statistic, 121) > 1e-4


def test_samples_of_a_shard_come_in_any_order():
    """Chi-square over the 24 orders of a shard's four samples."""
    sizes, seen = np.full(5, 4), {}
    for epoch in range(4800):
        order = order_of(epoch, 2, sizes=sizes)
        key = tuple(order[(order >= 8) & (order < 12)])
        seen[key] = seen.get(key, 0) + 1
    assert len(seen) == 24
    assert stats.chisquare(list(seen.values())).pvalue > 1e-4


def test_a_window_of_all_shards_mixes_them_all():
    sizes = np.full(4, 1000)
    shards = np.repeat(np.arange(4), 1000)[order_of(window=4, sizes=sizes)]
    for quarter in np.split(shards, 4):
        assert stats.chisquare(np.bincount(quarter, minlength=4)).pvalue > 1e-4


def test_ranks_together_see_what_one_process_sees():
    shards = (SIZES, 3)
    one = Order(NUM_SAMPLES, rank=0, world_size=1, shards=shards, **OPTIONS)
    ranks = [Order(NUM_SAMPLES, rank=r, world_size=2, shards=shards, **OPTIONS) for r in range(2)]
    for epoch in range(3):
        batches = one.epoch(epoch).split(one.sizes)
        parts = [rank.epoch(epoch).split(rank.sizes) for rank in ranks]
        for batch, first, second in zip(batches, *parts, strict=True):
            assert torch.equal(batch, torch.cat([first, second]))


def test_without_shuffling_shards_come_as_they_lie():
    order = Order(
        NUM_SAMPLES, rank=0, world_size=1, shards=(SIZES, 3), **OPTIONS | {"shuffle": False}
    )
    assert torch.equal(order.epoch(0), torch.arange(NUM_SAMPLES))


def test_every_stretch_of_the_order_is_of_a_whole_window_of_shards():
    sizes, window = np.full(40, 1000), 8
    shards = np.repeat(np.arange(40), 1000)[order_of(window=window, sizes=sizes)]
    for stretch in np.split(shards, 400)[100:300]:  # of 100 samples, in the middle
        assert np.unique(stretch).size >= window - 1
        assert np.bincount(stretch).max() < 50
