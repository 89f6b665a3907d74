"""The counter-based numbers: uniform, independent, the same for ever."""

import pytest
import torch

from dltrain.data.randomness import Draws, epoch_permutation, hash_index, stream_key

N = 100_000
INDEX = torch.arange(N)


def _chi_square(counts: torch.Tensor) -> float:
    """In standard deviations from what uniform counts give."""
    expected = counts.sum().item() / len(counts)
    statistic = ((counts - expected) ** 2 / expected).sum().item()
    freedom = len(counts) - 1
    return (statistic - freedom) / (2 * freedom) ** 0.5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shift", [0, 8, 16, 24])
def test_every_byte_is_uniform(seed, shift):
    byte = (Draws(seed, 0, 0, INDEX).bits(0) >> shift) & 255
    assert abs(_chi_square(torch.bincount(byte, minlength=256).double())) < 5


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0, 0, 0, 0), (1, 0, 0, 0)),
        ((0, 0, 0, 0), (0, 1, 0, 0)),
        ((0, 0, 0, 0), (0, 0, 1, 0)),
        ((0, 0, 0, 0), (0, 0, 0, 1)),
        ((1, 2, 0, 0), (2, 1, 0, 0)),
    ],
)
def test_streams_that_differ_in_one_word_are_independent(first, second):
    a, b = (Draws(s, e, p, INDEX).bits(d) >> 28 for s, e, p, d in (first, second))
    assert abs(_chi_square(torch.bincount(a * 16 + b, minlength=256).double())) < 5


def test_neighbouring_samples_are_independent():
    nibble = Draws(0, 0, 0, INDEX).bits(0) >> 28
    pairs = nibble[:-1] * 16 + nibble[1:]
    assert abs(_chi_square(torch.bincount(pairs, minlength=256).double())) < 5


def test_no_two_samples_share_a_number():
    assert len(torch.unique(hash_index(INDEX, stream_key(0)))) == N


def test_numbers_belong_to_samples_not_to_places():
    order = epoch_permutation(0, 0, N)
    assert torch.equal(Draws(5, 6, 7, order).bits(8), Draws(5, 6, 7, INDEX).bits(8)[order])


def test_ranges():
    random = Draws(0, 0, 0, INDEX)
    integers = random.integers(0, 9)
    assert (integers.min().item(), integers.max().item()) == (0, 8)
    assert abs(_chi_square(torch.bincount(integers).double())) < 5
    uniform = random.uniform(0)
    assert 0 <= uniform.min().item() < 1e-3
    assert 1 - 1e-3 < uniform.max().item() < 1
    assert uniform.dtype == torch.float32
    assert not random.happens(0, 0.0).any()
    assert random.happens(0, 1.0).all()
    assert abs(random.happens(0, 0.3).double().mean().item() - 0.3) < 0.01


def test_extreme_indices_and_seeds_stay_in_range():
    index = torch.tensor([0, 1, 2**31 - 1, 2**32 - 1])
    for seed in (0, -1, 2**64 + 3):
        bits = Draws(seed, 10**6, 0, index).bits(0)
        assert ((bits >= 0) & (bits < 2**32)).all()


def test_reference_implementation_in_plain_integers():
    """fmix32 of MurmurHash3.cpp, twice, with the two halves of the key."""

    def fmix32(h: int) -> int:
        h = (h ^ h >> 16) * 0x85EBCA6B & 0xFFFFFFFF
        h = (h ^ h >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
        return h ^ h >> 16

    key = stream_key(1, 2, 3, 4)
    expected = [
        fmix32(fmix32((i ^ key) & 0xFFFFFFFF) + (key >> 32) & 0xFFFFFFFF) for i in range(99)
    ]
    assert Draws(1, 2, 3, torch.arange(99)).bits(4).tolist() == expected


def test_golden_values():
    """A change here changes every augmented run: old runs could not be resumed or compared."""
    assert stream_key(0, 0) == 10093354209877388555
    bits = Draws(0, 0, 0, torch.arange(4)).bits(0)
    assert bits.tolist() == [2676029220, 4141745276, 1607175247, 3056342273]
    assert epoch_permutation(0, 0, 8).tolist() == [4, 1, 0, 6, 2, 3, 7, 5]


def test_every_epoch_and_seed_has_its_own_order():
    orders = {tuple(epoch_permutation(s, e, 50).tolist()) for s in range(5) for e in range(5)}
    assert len(orders) == 25
    assert all(sorted(order) == list(range(50)) for order in orders)


def test_order_does_not_touch_torchs_own_generator():
    before = torch.get_rng_state()
    epoch_permutation(0, 0, 100)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_numbers():
    assert torch.equal(Draws(1, 2, 3, INDEX.cuda()).bits(4).cpu(), Draws(1, 2, 3, INDEX).bits(4))
