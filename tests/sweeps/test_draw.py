"""Points that fill a space: the sequence is Sobol's, scrambling keeps what is good of it."""

from itertools import islice

import numpy as np
import pytest
from scipy.stats import qmc

from dltrain.config.grammar import Interval
from dltrain.sweeps.draw import BITS, directions, points, scaled, sobol


def test_the_sequence_is_that_of_joe_and_kuo():
    expected = qmc.Sobol(21, scramble=False).random(512)
    columns = [directions(dimension) for dimension in range(21)]
    found = [[sobol(index, column) / 2**BITS for column in columns] for index in range(512)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", [0, 7])
def test_of_each_interval_of_an_axis_there_is_one_point_scrambled_or_not(seed):
    found = np.array(list(islice(points("sobol", 21, seed), 256)))
    for axis in found.T:
        assert sorted((axis * 256).astype(int)) == list(range(256))


def test_scrambled_points_are_as_even_as_scipys():
    found = np.array(list(islice(points("sobol", 4, 3), 256)))
    reference = qmc.discrepancy(qmc.Sobol(4, seed=3).random(256))
    assert qmc.discrepancy(found) < 2 * reference
    by_chance = np.array(list(islice(points("uniform", 4, 3), 256)))
    assert qmc.discrepancy(by_chance) > 4 * reference


@pytest.mark.parametrize("sampler", ["sobol", "uniform"])
def test_points_are_inside_and_a_function_of_the_seed(sampler):
    first, again, other = (list(islice(points(sampler, 30, seed), 50)) for seed in (1, 1, 2))
    assert first == again != other
    assert all(len(point) == 30 and all(0 <= x < 1 for x in point) for point in first)


@pytest.mark.parametrize(
    "interval",
    [
        Interval(1e-5, 0.1, log=True), Interval(0.0, 1.0), Interval(-3.0, 5.0),
        Interval(1000.0, 1000.001), Interval(1e-300, 1e300, log=True), Interval(-1e308, 1e307),
    ],
)  # fmt: skip
def test_numbers_lie_within_their_interval_and_differ(interval):
    found = [float(scaled(interval, x / 1000)) for x in range(1000)]
    assert all(interval.low <= value <= interval.high for value in found)
    assert found == sorted(found)
    assert len(set(found)) == 1000


def test_whole_numbers_are_equally_likely():
    found = [int(scaled(Interval(1, 4, whole=True), x / 400)) for x in range(400)]
    assert [found.count(number) for number in (1, 2, 3, 4)] == [100] * 4
