"""Mixes the samples of a batch with one another, each by one of the parts that mix.

A sample's partner is the one before it in the global batch, cyclic, as in torchvision's MixUp: the
order is random already. Targets become shares of classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from dltrain.data.augment import Augmentation
from dltrain.data.randomness import Draws

Columns = tuple[Tensor, Tensor, Tensor]  # inputs, targets, index, as in Batch


@runtime_checkable
class Mix(Protocol):
    """A part of `augmentation=` that mixes two samples; it comes after all that change one."""

    num_classes: int

    def draw(self, random: Draws, image_shape: tuple[int, ...]) -> Tensor:
        """[n, ...] with one row a sample."""

    def mix(self, inputs: Tensor, partners: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [n, C, H, W] twice, normalised, and the samples' rows of `draw` -> the mixed
        images, and each sample's own share of the label, float64 [n] in [0, 1]."""


def separate(
    parts: Sequence[Augmentation | Mix], targets: Tensor, *, world_size: int
) -> tuple[list[Augmentation], Mixer]:
    """The parts that change one image, in their order, and a mixer of those that mix two."""
    mixes = [part for part in parts if isinstance(part, Mix)]
    others = [part for part in parts if not isinstance(part, Mix)]
    has_partner = bool(mixes) and world_size > 1
    return others, Mixer(mixes, targets, num_parts=len(others), has_partner=has_partner)


class Mixer:
    """Mixes batches by `parts`; without any it gives them back as they are.

    Where there are several, each sample takes one of them, all equally likely.

    has_partner: each batch begins with the partner of its first sample, for a rank whose share is
    not all of the batch (`Order`); it is left out of what comes back. num_parts: how many parts
    have changed the samples before, for draws of its own.
    """

    def __init__(
        self, parts: Sequence[Mix], targets: Tensor, *, num_parts: int, has_partner: bool
    ) -> None:
        self._parts, self._first_part, self.has_partner = tuple(parts), num_parts, has_partner
        sizes = {part.num_classes for part in parts}
        if len(sizes) > 1:
            raise ValueError(
                f"num_classes of the parts that mix is {' and '.join(map(str, sorted(sizes)))}; "
                "it must be one number"
            )
        self._num_classes = sizes.pop() if sizes else 0
        if parts and int(targets.max()) >= self._num_classes:
            raise ValueError(
                f"num_classes of the parts that mix is {self._num_classes}; it must be > "
                f"{int(targets.max())}, the highest label"
            )

    def draw(
        self, seed: int, epoch: int, order: Tensor, sample_shape: tuple[int, ...]
    ) -> list[Tensor]:
        """All random numbers of an epoch, on the device of `order`: one row a sample."""
        draws = [
            part.draw(Draws(seed, epoch, number, order), sample_shape)
            for number, part in enumerate(self._parts, self._first_part)
        ]
        if len(self._parts) > 1:  # and which part the sample takes
            random = Draws(seed, epoch, self._first_part + len(self._parts), order)
            draws.append(random.integers(0, len(self._parts)))
        return draws

    def __call__(
        self, columns: Columns, draws: Sequence[Tensor], sizes: list[int]
    ) -> tuple[Columns, list[int]]:
        """Batches of `sizes` samples, one after the other, each mixed for itself; their new sizes.

        All sizes are the same, but for the last.
        """
        if not self._parts:
            return columns, sizes
        num_full = sum(size == sizes[0] for size in sizes)
        begin, mixed = 0, []
        for count, size in ((num_full, sizes[0]), (len(sizes) - num_full, sizes[-1])):
            rows = slice(begin, begin + count * size)
            begin = rows.stop
            if count:
                groups = _Groups(count, size, has_partner=self.has_partner)
                mixed.append(
                    self._mix(groups, *([c[rows] for c in each] for each in (columns, draws)))
                )
        inputs, targets, index = (
            torch.cat(c) if len(c) > 1 else c[0] for c in zip(*mixed, strict=True)
        )
        left = [max(0, size - self.has_partner) for size in sizes]
        return (inputs, targets, index), left

    def _mix(self, groups: _Groups, columns: Sequence[Tensor], draws: Sequence[Tensor]) -> Columns:
        inputs, targets, index = columns
        pair = groups.own(inputs), groups.partners(inputs)
        draws = [groups.own(draw) for draw in draws]
        mixed, shares = self._parts[0].mix(*pair, draws[0])
        for number, part in enumerate(self._parts[1:], 1):
            other, other_shares = part.mix(*pair, draws[number])
            takes = draws[-1] == number
            # By 0 or 1: one of the two to the bit, in a quarter of the time of torch.where
            mixed = torch.lerp(mixed, other, takes.to(mixed.dtype)[:, None, None, None])
            shares = torch.where(takes, other_shares, shares)
        targets = F.one_hot(targets, self._num_classes)
        own, other = (share.float()[:, None] for share in (shares, 1 - shares))
        targets = (groups.partners(targets) * other).add_(groups.own(targets) * own)
        return mixed, targets, groups.own(index)


class _Groups:
    """Rows of `count` batches of `size`, and what of them are samples and their partners.

    Both come as their own rows one after the other, in the memory format of the column.
    """

    def __init__(self, count: int, size: int, *, has_partner: bool) -> None:
        self._shape, self._has_partner = (count, size), has_partner

    def own(self, column: Tensor) -> Tensor:
        if not self._has_partner:
            return column
        return self._by_batch(column, lambda batches: batches[:, 1:])

    def partners(self, column: Tensor) -> Tensor:
        if self._has_partner:
            return self._by_batch(column, lambda batches: batches[:, :-1])
        return self._by_batch(column, lambda batches: batches.roll(1, 1))

    def _by_batch(self, column: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        first = column.is_contiguous()
        stored = column if first else column.movedim(1, -1)
        rows = choose(stored.unflatten(0, self._shape)).flatten(0, 1)
        return rows if first else rows.movedim(-1, 1)
