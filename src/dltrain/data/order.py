"""Which samples come in which batch of which epoch, on which rank: a function, without state."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from dltrain.data.randomness import epoch_permutation
from dltrain.data.window import windowed_permutation


class Order:
    """The batches of an epoch of `num_samples` samples.

    batch_size counts the samples of all ranks together. Each global batch is cut into contiguous
    shares, one a rank, whose sizes differ by at most one. All ranks take the same number of steps;
    where a last short batch has fewer samples than there are ranks, the last shares are empty.

    with_partner: each share that is not empty begins with the sample before it in the global batch
    (cyclic), for those who mix samples with their neighbours. `sizes` counts it.

    shards: of a set that lies in shards, the number of samples of each and the number of shards
    that may be open at a time (see `windowed_permutation`); None where any sample is at hand.

    Raises ValueError where sizes contradict each other.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        rank: int,
        world_size: int,
        with_partner: bool = False,
        shards: tuple[np.ndarray, int] | None = None,
    ) -> None:
        _check_sizes(batch_size, num_samples, shuffle=shuffle, world_size=world_size)
        assert 0 <= rank < world_size, (rank, world_size)
        self.batch_size = batch_size
        #: samples of one epoch over all ranks
        self.num_samples = num_samples - (num_samples % batch_size if drop_last else 0)
        self._dataset_size = num_samples
        self._shuffle, self._seed = shuffle, seed
        self._rank, self._world_size = rank, world_size
        self._with_partner = with_partner
        assert shards is None or int(shards[0].sum()) == num_samples, num_samples
        self._shards = shards
        #: how many samples of each batch this rank reads
        self.sizes = self._batch_sizes()

    def reseeded(self, seed: int) -> Order:
        other = copy.copy(self)
        other._seed = seed
        return other

    def __len__(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return len(self.sizes)

    def epoch(self, epoch: int) -> Tensor:
        """This rank's samples of an epoch in the order in which they come: int64 on the CPU."""
        if self._shuffle and self._shards is not None:
            sizes, window = self._shards
            order = windowed_permutation(self._seed, epoch, torch.from_numpy(sizes), window)
        elif self._shuffle:
            order = epoch_permutation(self._seed, epoch, self._dataset_size)
        else:
            order = torch.arange(self._dataset_size)
        if self._world_size == 1 and not self._with_partner:
            return order[: self.num_samples]
        num_full = self.num_samples // self.batch_size * self.batch_size
        full = order[:num_full].view(-1, self.batch_size)[:, self._places(self.batch_size)]
        rest = order[num_full : self.num_samples]
        return torch.cat([full.reshape(-1), rest[self._places(len(rest))]])

    def _batch_sizes(self) -> list[int]:
        sizes = [len(self._places(self.batch_size))] * (self.num_samples // self.batch_size)
        remainder = self.num_samples % self.batch_size
        return [*sizes, len(self._places(remainder))] if remainder else sizes

    def _places(self, num_samples: int) -> Tensor:
        """Where in a batch of num_samples what this rank reads is."""
        begin, end = self._share(num_samples)
        partner = [(begin - 1) % num_samples] if self._with_partner and begin < end else []
        return torch.cat([torch.tensor(partner, dtype=torch.int64), torch.arange(begin, end)])

    def _share(self, num_samples: int) -> tuple[int, int]:
        """This rank's part of a batch of num_samples, begin and end; the first get one more."""
        base, extra = divmod(num_samples, self._world_size)
        begin = self._rank * base + min(self._rank, extra)
        return begin, begin + base + (self._rank < extra)


def _check_sizes(batch_size: int, num_samples: int, *, shuffle: bool, world_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"loader.batch_size is {batch_size!r}; it must be a whole number >= 1")
    if shuffle and batch_size > num_samples:
        raise ValueError(
            f"loader.batch_size is {batch_size}, but the training set has {num_samples} samples; "
            f"choose loader.batch_size <= {num_samples}"
        )
    if batch_size < world_size:
        raise ValueError(
            f"loader.batch_size is {batch_size} for {world_size} processes; it counts the samples "
            f"of all of them, so it must be >= {world_size}"
        )
