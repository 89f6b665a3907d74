"""A dataset that stays in memory, on the device where it fits: batches are gathered, not loaded.

The batches of an epoch are a function of (seed, epoch): the loader has no state, and beginning in
mid-epoch costs nothing. Several batches are gathered and normalised at a time, because a small
model's step is no longer than a handful of tensor operations.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dltrain.data.augment import Augmentation, Movement, Pixels, leading_movements
from dltrain.data.batch import Batch, check_samples, send
from dltrain.data.mixer import Mix, separate
from dltrain.data.normalise import Normalise
from dltrain.data.order import Order
from dltrain.data.randomness import Draws

# Bytes of float32 made at a time. On a CPU, what stays in cache: a batch of 128 28x28 images takes
# 35 us of one core at 1.6 to 3.2 MB, 39 us at 0.8 MB and 46 us at 6.4 MB (EPYC, 1 MiB of L2 a
# core). On a GPU, many batches for one set of kernel launches.
_CPU_CHUNK_BYTES = 2 << 20
_GPU_CHUNK_BYTES = 64 << 20


class ResidentLoader:
    """Batches of a dataset held in memory.

    inputs: uint8 [N, C, H, W] (or [N, F]), normalised to (x / 255 - mean) / std by channel; or
    float32 of any shape, normalised to (x - mean) / std. targets: int64 [N].

    batch_size counts the samples of all ranks together; shards: of a set that was read from some;
    see `Order`.

    storage: `device` keeps the samples on the device; `host` keeps them in the host's memory,
    augments them there and sends each chunk over as uint8.

    Raises ValueError where sizes or options contradict each other.
    """

    def __init__(
        self,
        inputs: np.ndarray | Tensor,
        targets: np.ndarray | Tensor,
        *,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str,
        augmentations: Sequence[Augmentation | Mix] = (),
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        storage: Literal["device", "host"] = "device",
        rank: int = 0,
        world_size: int = 1,
        shards: tuple[np.ndarray, int] | None = None,
    ) -> None:
        inputs, targets = torch.as_tensor(inputs), torch.as_tensor(targets)
        augmented = len(augmentations) > 0
        check_samples(tuple(inputs.shape), inputs.dtype, targets, augmented=augmented)
        parts, self._mixer = separate(augmentations, targets, world_size=world_size)
        self._order = Order(
            len(inputs),
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
            with_partner=self._mixer.has_partner,
            shards=shards,
        )
        assert storage in ("device", "host"), storage
        self.batch_size = batch_size
        self.storage = storage
        self.device = torch.device(device)
        #: samples of one epoch over all ranks
        self.num_samples = self._order.num_samples
        self._seed, self._sample_shape = seed, tuple(inputs.shape[1:])

        home = self.device if storage == "device" else torch.device("cpu")
        self._targets = targets.to(home)
        self._inputs = _Inputs(inputs.to(home), parts, mean, std, device=self.device)
        self._sizes = self._order.sizes
        bytes_per_batch = 4 * self._sizes[0] * math.prod(inputs.shape[1:]) if self._sizes else 1
        chunk_bytes = _CPU_CHUNK_BYTES if home.type == "cpu" else _GPU_CHUNK_BYTES
        self._batches_per_chunk = max(1, chunk_bytes // bytes_per_batch)
        if self.device.type == "cpu":
            _keep_freed_chunks()

    def __len__(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return len(self._sizes)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on, to the bit as if it had begun at 0."""
        assert 0 <= start <= len(self), (start, len(self))
        order = self._order.epoch(epoch).to(self._targets.device)
        draws = self._inputs.draw(self._seed, epoch, order)
        mixing = self._mixer.draw(self._seed, epoch, send(order, self.device), self._sample_shape)
        # Chunks begin at multiples of their size, whatever `start` is: an augmentation may use
        # operations whose rounding depends on the size of the batch.
        stride = self._batches_per_chunk
        for first in range(start // stride * stride, len(self), stride):
            sizes = self._sizes[first : first + stride]
            begin = first * self._sizes[0]
            chunk = slice(begin, begin + sum(sizes))
            index = order[chunk]
            inputs = self._inputs.read(index, [draw[chunk] for draw in draws])
            targets = send(self._targets.index_select(0, index), self.device)
            columns = (inputs, targets, send(index, self.device))
            columns, sizes = self._mixer(columns, [draw[chunk] for draw in mixing], sizes)
            batches = zip(*(column.split(sizes) for column in columns), strict=True)
            for number, batch in enumerate(batches, first):
                if number >= start:
                    yield Batch(*batch)

    def reseeded(self, seed: int) -> ResidentLoader:
        """The same samples, not copied, in the order and with the augmentation of another seed."""
        other = copy.copy(self)
        other._seed, other._order = seed, self._order.reseeded(seed)
        return other

    def close(self) -> None:
        """Nothing is held that the memory's owner does not free."""


class _Inputs:
    """Samples at home (device or host), read by index, augmented and normalised on the device."""

    def __init__(
        self,
        inputs: Tensor,
        augmentations: Sequence[Augmentation],
        mean: Sequence[float],
        std: Sequence[float],
        *,
        device: torch.device,
    ) -> None:
        self._sample_shape = tuple(inputs.shape[1:])
        is_uint8 = inputs.dtype == torch.uint8
        normalise = Normalise(
            mean,
            std,
            sample_shape=self._sample_shape,
            unit=255.0 if is_uint8 else 1.0,
            device=device if is_uint8 else inputs.device,
        )
        if not is_uint8:  # once for the whole dataset: it takes no more room than before
            inputs = normalise(inputs)
        self._normalise = normalise if is_uint8 else _nothing
        self._device = device
        self._parts = tuple(augmentations)
        self._moves = leading_movements(self._parts)
        self._source = Pixels(inputs) if self._moves else _Rows(inputs)

    def draw(self, seed: int, epoch: int, order: Tensor) -> list[Tensor]:
        """All random numbers of an epoch: one tensor a part, one row a sample of `order`."""
        return [
            part.draw(Draws(seed, epoch, number, order), self._sample_shape)
            for number, part in enumerate(self._parts)
        ]

    def read(self, index: Tensor, draws: Sequence[Tensor]) -> Tensor:
        """float32 [n, *sample_shape] on the device."""
        num_moves = len(self._moves)
        moves = list(zip(self._moves, draws[:num_moves], strict=True))
        samples = self._source.read(index, moves)
        for part, draw in zip(self._parts[num_moves:], draws[num_moves:], strict=True):
            samples = part(samples, draw)
        return self._normalise(send(samples, self._device))


class _Rows:
    """Samples that nothing moves: one contiguous row each, in the order of its values in memory."""

    def __init__(self, samples: Tensor) -> None:
        self._channels_last = samples.dim() == 4 and not samples.is_contiguous()
        stored = samples.permute(0, 2, 3, 1) if self._channels_last else samples
        self._stored_shape = stored.shape[1:]
        self._rows = stored.reshape(len(stored), -1)

    def read(self, index: Tensor, moves: Sequence[tuple[Movement, Tensor]]) -> Tensor:
        assert not moves
        stored = self._rows.index_select(0, index).view(len(index), *self._stored_shape)
        return stored.permute(0, 3, 1, 2) if self._channels_last else stored


def _keep_freed_chunks() -> None:
    """Makes glibc keep blocks of a chunk's size for the next one.

    It gives large blocks back to the kernel, which cost 40 page faults per batch here (a third of
    the loader's time), until a larger one has been freed: its threshold is dynamic (mallopt(3),
    M_MMAP_THRESHOLD). The block is never touched, so it costs nothing.
    """
    torch.empty(8 * _CPU_CHUNK_BYTES, dtype=torch.uint8)


def _nothing(samples: Tensor) -> Tensor:
    return samples
