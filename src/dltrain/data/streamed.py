"""A dataset that is read while it is trained on: by worker processes, a few batches ahead.

The batches of an epoch are a function of (seed, epoch), as those of `ResidentLoader` are, and hold
the same values: the workers only read. Augmentation and normalisation happen here, on the device,
so that neither the number of workers nor their timing can show in a result.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dltrain.data.augment import Augmentation, leading_movements, move_images
from dltrain.data.batch import Batch, Lane, Sent, check_samples, send
from dltrain.data.mixer import Mix, separate
from dltrain.data.normalise import Normalise
from dltrain.data.order import Order
from dltrain.data.randomness import Draws
from dltrain.data.resized_crop import Framing
from dltrain.data.source import Source
from dltrain.data.workers import Readers

NUM_AHEAD = 3  # batches that are being read while one is trained on


@dataclass(frozen=True)
class _Epoch:
    """What is drawn for an epoch, a row for each of this rank's samples, batch by batch."""

    index: tuple[Tensor, ...]  # int64 [B] on the host
    samples: tuple[Tensor, ...]  # int64 [B, 1 + k] on the host: what the readers are asked for
    draws: list[tuple[Tensor, ...]]  # [B, ...] on the device, for each part that works there
    mixing: list[tuple[Tensor, ...]]  # the same for the mixer


class StreamedLoader:
    """Batches of a dataset that is read sample by sample.

    source: samples of uint8 [C, H, W] (or [F]), normalised to (x / 255 - mean) / std by channel; or
    of float32, normalised to (x - mean) / std. targets: int64 [N].

    A source that lies in shards has `shards`, which the order depends on; see `Order`, also on
    batch_size, which counts the samples of all ranks together. With num_workers=0 this
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
        augmentations: Sequence[Augmentation | Mix] = (),
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._shape, self._channels_last = tuple(source.shape), source.channels_last
        dtype = torch.from_numpy(np.empty(0, source.dtype)).dtype
        check_samples((len(source), *self._shape), dtype, targets, augmented=bool(augmentations))
        parts, self._mixer = separate(augmentations, targets, world_size=world_size)
        self._order = Order(
            len(source),
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
            with_partner=self._mixer.has_partner,
            shards=getattr(source, "shards", None),
        )
        self.batch_size, self.num_samples = batch_size, self._order.num_samples
        self.num_workers, self.device = num_workers, torch.device(device)
        self._seed, self._shuffle, self._targets = seed, shuffle, targets
        self._sizes = getattr(source, "sizes", None)
        self._parts = dict(enumerate(parts))
        self._framing = self._take_framing()
        self._moves = leading_movements(list(self._parts.values()))
        unit = 255.0 if dtype == torch.uint8 else 1.0
        self._normalise = Normalise(
            mean, std, sample_shape=self._shape, unit=unit, device=self.device
        )
        self._readers = Readers(
            source,
            batch_size=max([1, *self._order.sizes]),  # a high rank may have none
            num_ahead=NUM_AHEAD,
            num_workers=num_workers,
        )
        self._epochs, self._lane = dict[int, _Epoch](), Lane(self.device)

    def __len__(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return len(self._order)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on, to the bit as if it had begun at 0."""
        assert 0 <= start <= len(self), (start, len(self))
        under_way: deque[tuple[int, Sent]] = deque()  # to the device
        for number in range(start, len(self)):
            under_way.append((number, self._lane.send(*self._read(epoch, number))))
            if len(under_way) > self._lane.num_ahead:
                yield self._batch(epoch, *under_way.popleft())
        for number, sent in under_way:
            yield self._batch(epoch, number, sent)

    def _read(self, epoch: int, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Samples, targets and index on the host; more are asked for. Good until the next call."""
        asked = self._readers.asked
        if not asked or asked[0][0] != (epoch, number):  # it begins, or begins anew
            self._readers.forget()
            self._ask((epoch, number))
        last, _ = asked[-1]
        samples = torch.from_numpy(self._readers.take())
        self._ask(self._next(last))
        index = self._drawn(epoch).index[number]
        return samples, self._targets.index_select(0, index), index

    def _ask(self, position: tuple[int, int] | None) -> None:
        """Has batches read from position (epoch, number) on, as many as there is room for."""
        while position is not None and self._readers.has_room:
            epoch, number = position
            self._readers.ask(position, self._drawn(epoch).samples[number].numpy())
            position = self._next(position)

    def _next(self, position: tuple[int, int]) -> tuple[int, int] | None:
        """What is wanted after a batch; in training the next epoch follows without a pause."""
        epoch, number = position
        if number + 1 < len(self):
            return epoch, number + 1
        return (epoch + 1, 0) if self._shuffle else None

    def _batch(self, epoch: int, number: int, sent: Sent) -> Batch:
        samples, targets, index = self._lane.receive(sent)
        drawn = self._drawn(epoch)
        mixing = [draw[number] for draw in drawn.mixing]
        with _one_thread():
            inputs = self._transform(samples, [draw[number] for draw in drawn.draws])
            mixed, _ = self._mixer((inputs, targets, index), mixing, [len(index)])
        return Batch(*mixed)

    def close(self) -> None:
        """Ends the workers; another epoch would start them again."""
        self._readers.close()

    def _take_framing(self) -> Framing | None:
        """The part that chooses what is read of images of several sizes, out of the others."""
        if self._sizes is None or not isinstance(part := self._parts.get(0), Framing):
            return None
        del self._parts[0]
        part.check_size(self._shape)
        return part

    def _drawn(self, epoch: int) -> _Epoch:
        """All random numbers of an epoch, at once: by the batch they would cost more."""
        if epoch not in self._epochs:
            for old in [number for number in self._epochs if number not in (epoch - 1, epoch + 1)]:
                del self._epochs[old]
            self._epochs[epoch] = self._draw(epoch)
        return self._epochs[epoch]

    def _draw(self, epoch: int) -> _Epoch:
        order, sizes = self._order.epoch(epoch), self._order.sizes
        samples = order[:, None]
        if self._framing is not None:
            of_order = torch.from_numpy(self._sizes).index_select(0, order)
            boxes = self._framing.frame(Draws(self._seed, epoch, 0, order), *of_order.unbind(1))
            samples = torch.cat([samples, boxes], dim=1)
        on_device = send(order, self.device)
        draws = [
            part.draw(Draws(self._seed, epoch, number, on_device), self._shape).split(sizes)
            for number, part in self._parts.items()
        ]
        mixing = self._mixer.draw(self._seed, epoch, on_device, self._shape)
        mixing_by_batch = [draw.split(sizes) for draw in mixing]
        return _Epoch(order.split(sizes), samples.split(sizes), draws, mixing_by_batch)

    def _transform(self, samples: Tensor, draws: Sequence[Tensor]) -> Tensor:
        """Augmented and normalised, on the device."""
        num_moves, parts = len(self._moves), list(self._parts.values())
        if num_moves == 1 and self._channels_last:  # faster than a gather of pixels, and the same
            num_moves = 0
        if num_moves:
            samples = move_images(samples, list(zip(self._moves, draws[:num_moves], strict=True)))
        for part, draw in zip(parts[num_moves:], draws[num_moves:], strict=True):
            samples = part(samples, draw)
        return self._normalise(samples)


@contextmanager
def _one_thread() -> Iterator[None]:
    """What the CPU computes meanwhile leaves the other cores to the workers.

    Several threads wait for each other in a loop, and for a core that a worker is using: with two
    workers on two cores they took 0.6 ms an image where one takes 0.13 ms, and all reading together
    took 1.4 times as long. To switch costs 0.2 us.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
