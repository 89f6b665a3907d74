"""A dataset that stays in memory, on the device where it fits: batches are gathered, not loaded.

The batches of an epoch are a function of (seed, epoch): the loader has no state, and beginning in
mid-epoch costs nothing. Several batches are gathered and normalised at a time, because a small
model's step is no longer than a handful of tensor operations.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dltrain.data.augment import Augmentation, Movement, Pixels
from dltrain.data.normalise import Normalise
from dltrain.data.randomness import Draws, epoch_permutation

# Bytes of float32 made at a time. On a CPU, what stays in cache: a batch of 128 28x28 images takes
# 35 us of one core at 1.6 to 3.2 MB, 39 us at 0.8 MB and 46 us at 6.4 MB (EPYC, 1 MiB of L2 a
# core). On a GPU, many batches for one set of kernel launches.
_CPU_CHUNK_BYTES = 2 << 20
_GPU_CHUNK_BYTES = 64 << 20


class Batch(NamedTuple):
    """Samples on the device, as a task gets them.

    inputs: float32 [B, C, H, W] or [B, F], normalised. targets: int64 [B]. index: int64 [B], the
    samples' places in the dataset.
    """

    inputs: Tensor
    targets: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


class ResidentLoader:
    """Batches of a dataset held in memory.

    inputs: uint8 [N, C, H, W] (or [N, F]), normalised to (x / 255 - mean) / std by channel; or
    float32 of any shape, normalised to (x - mean) / std. targets: int64 [N].

    batch_size counts the samples of all ranks together. Each global batch is cut into contiguous
    shares, one a rank, whose sizes differ by at most one. All ranks take the same number of steps;
    where a last short batch has fewer samples than there are ranks, the last shares are empty.

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
        augmentations: Sequence[Augmentation] = (),
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        storage: Literal["device", "host"] = "device",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        inputs, targets = torch.as_tensor(inputs), torch.as_tensor(targets)
        _check_tensors(inputs, targets, augmented=len(augmentations) > 0)
        _check_sizes(batch_size, len(inputs), shuffle=shuffle, world_size=world_size)
        assert 0 <= rank < world_size, (rank, world_size)
        assert storage in ("device", "host"), storage
        self.batch_size = batch_size
        self.storage = storage
        self.device = torch.device(device)
        #: samples of one epoch over all ranks
        self.num_samples = len(inputs) - (len(inputs) % batch_size if drop_last else 0)
        self._dataset_size = len(inputs)
        self._shuffle, self._seed = shuffle, seed
        self._rank, self._world_size = rank, world_size

        home = self.device if storage == "device" else torch.device("cpu")
        self._targets = targets.to(home)
        self._inputs = _Inputs(inputs.to(home), augmentations, mean, std, device=self.device)
        self._sizes = self._batch_sizes()
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
        order = self._order(epoch).to(self._targets.device)
        draws = self._inputs.draw(self._seed, epoch, order)
        # Chunks begin at multiples of their size, whatever `start` is: an augmentation may use
        # operations whose rounding depends on the size of the batch.
        stride = self._batches_per_chunk
        for first in range(start // stride * stride, len(self), stride):
            sizes = self._sizes[first : first + stride]
            begin = first * self._sizes[0]
            chunk = slice(begin, begin + sum(sizes))
            index = order[chunk]
            inputs = self._inputs.read(index, [draw[chunk] for draw in draws])
            targets = _send(self._targets.index_select(0, index), self.device)
            columns = (inputs, targets, _send(index, self.device))
            batches = zip(*(column.split(sizes) for column in columns), strict=True)
            for number, batch in enumerate(batches, first):
                if number >= start:
                    yield Batch(*batch)

    def _order(self, epoch: int) -> Tensor:
        """This rank's samples of an epoch in the order in which they come: int64 on the CPU."""
        if self._shuffle:
            order = epoch_permutation(self._seed, epoch, self._dataset_size)
        else:
            order = torch.arange(self._dataset_size)
        if self._world_size == 1:
            return order[: self.num_samples]
        num_full = self.num_samples // self.batch_size * self.batch_size
        begin, end = self._share(self.batch_size)
        full = order[:num_full].view(-1, self.batch_size)[:, begin:end]
        begin, end = self._share(self.num_samples - num_full)
        return torch.cat([full.reshape(-1), order[num_full + begin : num_full + end]])

    def _batch_sizes(self) -> list[int]:
        """How many samples of each batch are this rank's."""
        begin, end = self._share(self.batch_size)
        sizes = [end - begin] * (self.num_samples // self.batch_size)
        remainder = self.num_samples % self.batch_size
        if remainder:
            begin, end = self._share(remainder)
            sizes.append(end - begin)
        return sizes

    def _share(self, num_samples: int) -> tuple[int, int]:
        """This rank's part of a batch of num_samples, begin and end; the first get one more."""
        base, extra = divmod(num_samples, self._world_size)
        begin = self._rank * base + min(self._rank, extra)
        return begin, begin + base + (self._rank < extra)


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
        self._moves = _leading_movements(self._parts)
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
        return self._normalise(_send(samples, self._device))


class _Rows:
    """Samples that nothing moves: one contiguous row each."""

    def __init__(self, samples: Tensor) -> None:
        self._sample_shape = samples.shape[1:]
        self._rows = samples.reshape(len(samples), -1)

    def read(self, index: Tensor, moves: Sequence[tuple[Movement, Tensor]]) -> Tensor:
        assert not moves
        return self._rows.index_select(0, index).view(len(index), *self._sample_shape)


def _leading_movements(parts: Sequence[Augmentation]) -> list[Movement]:
    """The parts that the gather itself does: those before the first that looks at the pixels."""
    moves: list[Movement] = []
    for part in parts:
        if not isinstance(part, Movement):
            break
        moves.append(part)
    return moves


def _keep_freed_chunks() -> None:
    """Makes glibc keep blocks of a chunk's size for the next one.

    It gives large blocks back to the kernel, which cost 40 page faults per batch here (a third of
    the loader's time), until a larger one has been freed: its threshold is dynamic (mallopt(3),
    M_MMAP_THRESHOLD). The block is never touched, so it costs nothing.
    """
    torch.empty(8 * _CPU_CHUNK_BYTES, dtype=torch.uint8)


def _nothing(samples: Tensor) -> Tensor:
    return samples


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    """From host to GPU through pinned memory, so that the host does not wait for the copy."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _check_tensors(inputs: Tensor, targets: Tensor, *, augmented: bool) -> None:
    if inputs.dtype not in (torch.uint8, torch.float32) or inputs.dim() < 2 or not inputs.numel():
        raise ValueError(
            f"inputs are {inputs.dtype} of shape {list(inputs.shape)}; they must be uint8 or "
            "float32 of shape [N, C, H, W] or [N, F], and not empty"
        )
    if targets.dtype != torch.int64 or targets.shape != inputs.shape[:1]:
        raise ValueError(
            f"targets are {targets.dtype} of shape {list(targets.shape)}; they must be int64 of "
            f"shape [{len(inputs)}], one for each input"
        )
    if augmented and (inputs.dtype != torch.uint8 or inputs.dim() != 4):
        raise ValueError(
            f"augmentation is for images, uint8 [N, C, H, W]; this dataset has {inputs.dtype} of "
            f"shape {list(inputs.shape)}. Choose augmentation=none"
        )


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
