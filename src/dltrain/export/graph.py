"""What is traced: a model from its inputs to logits, or from pixels to probabilities."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# model, inputs -> logits, float32 [N, K]
Predict = Callable[[nn.Module, Tensor], Tensor]
EXAMPLE_BATCH = 2  # torch.export takes a size of 0 or 1 for a constant


class Logits(nn.Module):
    """Normalised inputs [N, C, H, W] or [N, F] -> logits [N, K]."""

    output = "logits"

    def __init__(self, model: nn.Module, predict: Predict) -> None:
        super().__init__()
        self.model, self._predict = model, predict

    def forward(self, input: Tensor) -> Tensor:
        return self._predict(self.model, input).float()


class Probabilities(nn.Module):
    """uint8 [N, H, W, C], as decoders give images, or float32 [N, F] -> probabilities [N, K].

    mean, std: by channel, or one number for all; unit: the value that counts as 1.
    """

    output = "probabilities"

    def __init__(
        self,
        model: nn.Module,
        predict: Predict,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        sample_shape: Sequence[int],
        unit: float,
    ) -> None:
        super().__init__()
        self.model, self._predict = model, predict
        self._is_image = len(sample_shape) == 3
        mean_C, std_C = (torch.tensor(list(each), dtype=torch.float64) for each in (mean, std))
        shape = (-1, 1, 1) if self._is_image else (-1,)
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", (1 / (unit * std_C)).float().view(shape))
        self.register_buffer("shift", (-mean_C / std_C).float().view(shape))

    def forward(self, input: Tensor) -> Tensor:
        samples = input.permute(0, 3, 1, 2) if self._is_image else input
        normalised = samples.float() * self.scale + self.shift
        return self._predict(self.model, normalised).float().softmax(1)


def trace(module: nn.Module, example: Tensor) -> Any:
    """An ExportedProgram for any number of samples. Raises ValueError where there can be none."""
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad():
            program = torch.export.export(
                module.eval(), (torch.zeros_like(example),), dynamic_shapes=({0: batch},)
            )
    except Exception as error:  # a model of the user's own can defy tracing in any way
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"torch.export cannot trace this model: {reason[:300]}") from error
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # paths of this machine are nobody else's matter
    return program
