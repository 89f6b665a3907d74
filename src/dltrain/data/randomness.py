"""Random numbers as a function of (seed, epoch, part, draw, sample): no state, same on any device.

A stream's 64-bit key comes from BLAKE2b on the host. The samples' 32-bit numbers are two rounds of
MurmurHash3's finaliser (Appleby, `fmix32`) over the sample's index, in int64 tensor arithmetic
that never overflows.
"""

import hashlib

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
# fmix32's multipliers less 2**32: the same modulo 2**32, and a product with 32 bits fits an int64.
_MULTIPLIER_1 = 0x85EBCA6B - (1 << 32)
_MULTIPLIER_2 = 0xC2B2AE35 - (1 << 32)


def stream_key(*words: int) -> int:
    """64 bits that depend on every word and on their order; words are integers of any size."""
    digest = hashlib.blake2b(",".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def epoch_permutation(seed: int, epoch: int, num_samples: int) -> Tensor:
    """The order of an epoch: int64 [num_samples] on the CPU, whatever the device of the data."""
    generator = torch.Generator().manual_seed(stream_key(seed, epoch) >> 1)
    return torch.randperm(num_samples, generator=generator)


def hash_index(index: Tensor, key: int) -> Tensor:
    """32 uniform bits for each index: int64 [n] in, int64 [n] in [0, 2**32) out.

    For one key this is a bijection of the 32-bit integers: no two samples share a number.
    """
    bits = _finalise((index ^ key) & _MASK)
    return _finalise((bits + (key >> 32)) & _MASK)


def _finalise(bits: Tensor) -> Tensor:
    """fmix32. In place: `bits` is ours."""
    bits ^= bits >> 16
    bits *= _MULTIPLIER_1
    bits &= _MASK
    bits ^= bits >> 13
    bits *= _MULTIPLIER_2
    bits &= _MASK
    bits ^= bits >> 16
    return bits


class Draws:
    """What an augmentation may ask for in an epoch: numbers for every sample of index, int64 [n].

    `part` is the augmentation's place in its list; `draw` tells apart the numbers that it wants
    for one sample.
    """

    def __init__(self, seed: int, epoch: int, part: int, index: Tensor) -> None:
        self._words = (seed, epoch, part)
        self._index = index

    def bits(self, draw: int) -> Tensor:
        """int64 [n], uniform in [0, 2**32)."""
        return hash_index(self._index, stream_key(*self._words, draw))

    def integers(self, draw: int, high: int) -> Tensor:
        """int64 [n], uniform in [0, high); high is at most 2**31 (bias at most high / 2**32)."""
        assert 0 < high <= 1 << 31, high
        return (self.bits(draw) * high) >> 32

    def uniform(self, draw: int) -> Tensor:
        """float32 [n] in [0, 1), multiples of 2**-24: exact, so that no rounding makes a 1."""
        return (self.bits(draw) >> 8).to(torch.float32) * 2.0**-24

    def happens(self, draw: int, probability: float) -> Tensor:
        """bool [n], true with that probability; 0 and 1 are never and always."""
        return self.bits(draw) < round(probability * (1 << 32))
