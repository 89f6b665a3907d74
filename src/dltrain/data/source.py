"""What samples are read from, one at a time: an array, or whatever has the same three methods."""

from typing import Protocol

import numpy as np


class Source(Protocol):
    """Samples that are read one at a time."""

    dtype: np.dtype
    shape: tuple[int, ...]  # of one sample: [C, H, W] or [F]
    channels_last: bool  # whether the bytes of a [C, H, W] lie as [H, W, C], as decoders give them

    def __len__(self) -> int: ...

    def read(self, index: int, out: np.ndarray, *box: int) -> None:
        """Writes sample `index` into `out`, of `dtype` and `shape`. May raise anything.

        box: top, left, height and width of the part that is wanted, where the source has images of
        several sizes (`sizes`, int32 [N, 2]: heights and widths) and a part of each was drawn.

        It may run in a fork: it opens the files that it needs (those of the parent are closed
        there), takes no lock, and draws no random numbers (forks would draw the same).
        """

    def describe(self, index: int) -> str:
        """What the user knows the sample by: its number, its file."""


class ArraySource:
    """The rows of an array [N, ...]."""

    channels_last = False

    def __init__(self, inputs: np.ndarray, name: str) -> None:
        self.inputs, self.name = inputs, name
        self.dtype, self.shape = inputs.dtype, tuple(inputs.shape[1:])

    def __len__(self) -> int:
        return len(self.inputs)

    def read(self, index: int, out: np.ndarray, *box: int) -> None:
        out[...] = self.inputs[index]

    def describe(self, index: int) -> str:
        return f"sample {index} of {self.name}"
