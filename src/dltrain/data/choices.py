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

    Images are sorted by what they chose, so that an operation gets those that chose it, and costs
    nothing where nobody did. The host waits once for the device, to know how many chose what.
    """
    order = choices.argsort(dim=0, stable=True)
    every = torch.arange(len(operations), device=choices.device)
    counts = (choices[:, :, None] == every).sum(0).tolist()
    for step, counts_of_step in enumerate(counts):
        rows = order[:, step]
        sorted_images = images.index_select(0, rows).split(counts_of_step)
        sorted_parameters = parameters[step].index_select(0, rows).split(counts_of_step)
        changed = [
            operation(*group) if operation is not None and len(group[0]) else group[0]
            for operation, *group in zip(operations, sorted_images, sorted_parameters, strict=True)
        ]
        images = torch.cat(changed).index_select(0, rows.argsort())
    return images
