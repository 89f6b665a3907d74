"""A dataset that is read while it is trained on: by worker processes, a few batches ahead.

The batches of an epoch are a function of (seed, epoch), as those of `ResidentLoader` are, and hold
the same values: the workers only read. Augmentation and normalisation happen here, on the device,
so that neither the number of workers nor their timing can show in a result.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dltrain.data.augment import Augmentation, leading_movements, move_images
from dltrain.data.batch import Batch, check_samples, send
from dltrain.data.normalise import Normalise
from dltrain.data.order import Order
from dltrain.data.randomness import Draws
from dltrain.data.workers import Readers, Source

NUM_AHEAD = 3  # batches that are being read while one is trained on


class StreamedLoader:
    """Batches of a dataset that is read sample by sample.

    source: samples of uint8 [C, H, W] (or [F]), normalised to (x / 255 - mean) / std by channel; or
    of float32, normalised to (x - mean) / std. targets: int64 [N].

    batch_size counts the samples of all ranks together; see `Order`. With num_workers=0 this
    process reads. The workers live until `close`.

    Raises ValueError where sizes or options contradict each other; WorkerError while iterating,
    where a sample cannot be read.
    """

    storage = "stream"

    def __init__(
        self,
        source: Source,
        targets: Tensor,
        *,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str,
        num_workers: int,
        augmentations: Sequence[Augmentation] = (),
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._shape = tuple(source.shape)
        dtype = torch.from_numpy(np.empty(0, source.dtype)).dtype
        self._parts = tuple(augmentations)
        check_samples((len(source), *self._shape), dtype, targets, augmented=bool(self._parts))
        self._order = Order(
            len(source),
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )
        self.batch_size, self.num_samples = batch_size, self._order.num_samples
        self.num_workers = num_workers
        self.device = torch.device(device)
        self._seed, self._targets = seed, targets
        self._asking: object = None  # the epoch whose batches are being read ahead
        self._moves = leading_movements(self._parts)
        self._normalise = Normalise(
            mean,
            std,
            sample_shape=self._shape,
            unit=255.0 if dtype == torch.uint8 else 1.0,
            device=self.device,
        )
        self._readers = Readers(
            source,
            batch_size=max([1, *self._order.sizes]),  # a high rank may have none
            num_slots=1 + NUM_AHEAD,
            num_workers=num_workers,
        )

    def __len__(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return len(self._order)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on, to the bit as if it had begun at 0."""
        assert 0 <= start <= len(self), (start, len(self))
        order = self._order.epoch(epoch)
        draws = self._draw(epoch, order)
        indices = order.split(self._order.sizes)[start:]
        first, me = sum(self._order.sizes[:start]), object()
        to_ask: Iterator[Tensor] = iter(())
        for number, index in enumerate(indices):
            if self._asking is not me:  # it begins, or another epoch was begun meanwhile
                self._readers.forget()
                self._asking, to_ask = me, iter(indices[number:])
                self._ask(to_ask)
            rows = slice(first, first + len(index))
            samples = torch.from_numpy(self._readers.take())
            inputs = self._transform(samples, [draw[rows] for draw in draws])
            self._ask(to_ask)  # what was read has been copied: its place is free
            first += len(index)
            targets = send(self._targets.index_select(0, index), self.device)
            yield Batch(inputs, targets, send(index, self.device))

    def _ask(self, indices: Iterator[Tensor]) -> None:
        while self._readers.has_room and (index := next(indices, None)) is not None:
            self._readers.ask(index.numpy())

    def close(self) -> None:
        """Ends the workers; another epoch would start them again."""
        self._readers.close()

    def _draw(self, epoch: int, order: Tensor) -> list[Tensor]:
        """All random numbers of an epoch, on the device: one row a sample of `order`."""
        order = send(order, self.device)
        return [
            part.draw(Draws(self._seed, epoch, number, order), self._shape)
            for number, part in enumerate(self._parts)
        ]

    def _transform(self, samples: Tensor, draws: Sequence[Tensor]) -> Tensor:
        """Augmented and normalised on the device; a copy, whatever happens to `samples` later."""
        samples, num_moves = send(samples, self.device), len(self._moves)
        if self._moves:
            samples = move_images(samples, list(zip(self._moves, draws[:num_moves], strict=True)))
        for part, draw in zip(self._parts[num_moves:], draws[num_moves:], strict=True):
            samples = part(samples, draw)
        return self._normalise(samples)
