"""The order of a set that lies in shards: random, but of few shards at a time."""

import torch
from torch import Tensor

from dltrain.data.randomness import stream_key


def windowed_permutation(seed: int, epoch: int, shard_sizes: Tensor, window: int) -> Tensor:
    """An order of all samples, int64 [N], in which at most `window` shards are open at a time.

    A shard is open from its first sample to its last. shard_sizes: int64 [S], the number of samples
    of each; the first shard holds the first samples, and so on. With window >= S the shards do not
    matter. Every sample is as likely at any place, if the shards are of one size.

    The shards are permuted, and each sample of the shard at place r gets a random time in
    [r, r + window), by which all are sorted. So shards begin one after the other, rather than
    `window` at once, and a cache is filled evenly. The first and the last would be alone there:
    their times are drawn from what is left when times < window - 1 and times >= S are cut off.
    """
    generator = torch.Generator().manual_seed(stream_key(seed, epoch) >> 1)
    num_shards, num_samples = len(shard_sizes), int(shard_sizes.sum())
    places = torch.randperm(num_shards, generator=generator)
    window = min(window, num_shards)
    begin = places.clamp(min=window - 1)
    length = (places + window).clamp(max=num_shards) - begin
    # Fixed point, 32 bits of fraction: no rounding can carry a time into the next unit
    bits = torch.randint(1 << 32, (num_samples,), generator=generator)
    times = bits.mul_(length.repeat_interleave(shard_sizes))
    times += (begin << 32).repeat_interleave(shard_sizes)
    return times.argsort(stable=True)
