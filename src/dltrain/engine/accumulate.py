"""Micro-batches: one optimizer step in pieces that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def whole_batch(batch: Any) -> tuple[tuple[Any, None]]:
    """The neutral element: one piece, no weighting."""
    return ((batch, None),)


class Accumulate:
    """Cuts a batch into `num_pieces` of nearly equal size, each with its share of the mean loss."""

    def __init__(self, num_pieces: int) -> None:
        self.num_pieces = num_pieces
        self.shares: dict[tuple[int, int], Tensor] = {}  # on the device: made once, not each time

    def __call__(self, batch: Any) -> Iterator[tuple[Any, Tensor]]:
        columns = [column.tensor_split(self.num_pieces) for column in batch]
        for piece in zip(*columns, strict=True):
            size = len(piece[0])
            if size:  # a last short batch may have fewer samples than there are pieces
                sizes = (size, len(batch[0]))
                if sizes not in self.shares:
                    self.shares[sizes] = torch.tensor(size / sizes[1], device=piece[0].device)
                yield type(batch)(*piece), self.shares[sizes]
