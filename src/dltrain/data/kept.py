"""Memory of large results on the CPU, used again as soon as nobody has them any more.

The system gives every large block as new pages, and takes them back: on a virtual machine filling a
new batch of 64 images of 224 pixels took ten times as long as filling one that was there. (A GPU's
allocator keeps its memory by itself.)
"""

import torch
from torch import Tensor

_NUM_KEPT = 3  # a consumer that keeps more of them gets new memory
_SMALL_BYTES = 1 << 20  # below it malloc keeps its memory, too


class Kept:
    """Gives float32 tensors whose values are whatever they were."""

    def __init__(self) -> None:
        self._blocks: list[Tensor] = []

    def empty(self, num_rows: int, width: int, device: torch.device) -> Tensor:
        """[num_rows, width], which shares memory with no tensor that is still there."""
        size = num_rows * width
        if device.type != "cpu" or 4 * size < _SMALL_BYTES:
            return torch.empty(num_rows, width, device=device)
        free = [block for block in self._blocks if _is_free(block)]
        fitting = next((block for block in free if block.numel() >= size), None)
        if fitting is None:
            fitting = torch.empty(size)
            busy = [block for block in self._blocks if not any(block is each for each in free)]
            self._blocks = [*busy, fitting][-_NUM_KEPT:]
        return fitting[:size].view(num_rows, width)


def _is_free(block: Tensor) -> bool:
    """Whether no other tensor has it: its storage is known to it, and to the question, alone.

    Where torch (its CUDA graphs ask so) has no such count any more, none is free.
    """
    use_count = getattr(torch._C, "_storage_Use_Count", None)
    return use_count is not None and use_count(block.untyped_storage()._cdata) == 2
