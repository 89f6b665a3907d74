"""Each image is changed by the operations that it drew, one after the other."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# uint8 [m, C, H, W] and the images' parameters [m, ...] -> uint8 [m, C, H, W]
Operation = Callable[[Tensor, Tensor], Tensor]


def apply_choices(
    images: Tensor,
    choices: Tensor,
    parameters: Sequence[Tensor],
    operations: Sequence[Operation | None],
) -> Tensor:
    """uint8 [n, C, H, W], changed by operations[choices[:, 0]], then [:, 1] and so on.

    choices: int64 [n, S]; parameters: for each of the S, [n, ...]; None leaves images alone.

    The images of one operation are picked out and put back, so that an operation costs nothing
    where nobody chose it. The host waits once for the device, to know how many chose what.
    """
    images, order = images.clone(), choices.argsort(dim=0, stable=True)
    every = torch.arange(len(operations), device=choices.device)
    counts = (choices[:, :, None] == every).sum(0).tolist()
    for step, counts_of_step in enumerate(counts):
        groups = order[:, step].split(counts_of_step)
        for rows, operation in zip(groups, operations, strict=True):
            if operation is not None and len(rows):
                changed = operation(images.index_select(0, rows), parameters[step][rows])
                images.index_copy_(0, rows, changed)
    return images
