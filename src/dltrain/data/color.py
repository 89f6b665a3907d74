"""Random brightness, contrast, saturation and hue, in random order."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dltrain.data import tones
from dltrain.data.choices import apply_choices
from dltrain.data.chunks import in_chunks
from dltrain.data.planes import like, to_planes
from dltrain.data.randomness import Draws

Range = tuple[float, float]
_NEUTRAL = {
    "brightness": (1.0, 1.0),
    "contrast": (1.0, 1.0),
    "saturation": (1.0, 1.0),
    "hue": (0.0, 0.0),
}


class ColorJitter:
    """Changes brightness, contrast, saturation and hue, in an order that each image draws.

    A factor of the first three lies in [max(0, 1 - x), 1 + x], hue turns by up to x of the colour
    circle in either direction; or a pair of numbers is the range itself. 0 changes nothing.
    Grey images have no saturation and no hue. As torchvision's ColorJitter.
    """

    def __init__(
        self,
        *,
        brightness: float | Sequence[float],
        contrast: float | Sequence[float],
        saturation: float | Sequence[float],
        hue: float | Sequence[float],
    ) -> None:
        factors = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        ranges = {name: _range(name, value, 1.0, 0, 100) for name, value in factors.items()}
        ranges["hue"] = _range("hue", hue, 0.0, -0.5, 0.5)
        active = {name: ends for name, ends in ranges.items() if ends != _NEUTRAL[name]}
        self._operations = [getattr(tones, name) for name in active]
        self._ranges = list(active.values())

    def draw(self, random: Draws, image_shape: tuple[int, ...]) -> Tensor:
        """float32 [n, 1 + K]: which order of the K operations, then the parameter of each."""
        if image_shape[0] not in (1, 3):
            raise ValueError(f"the image has {image_shape[0]} channels; it must have 1 or 3")
        order = random.integers(0, math.factorial(len(self._ranges)))
        parameters = [
            random.uniform(draw) * (high - low) + low
            for draw, (low, high) in enumerate(self._ranges, start=1)
        ]
        return torch.stack([order.float(), *parameters], dim=1)

    def __call__(self, inputs: Tensor, draws: Tensor) -> Tensor:
        return in_chunks(self._transform, inputs, draws)

    def _transform(self, inputs: Tensor, draws: Tensor) -> Tensor:
        count = len(self._operations)
        orders = torch.tensor(list(itertools.permutations(range(count))), device=draws.device)
        if not count:
            return inputs
        choices = orders[draws[:, 0].long()]
        parameters = draws[:, 1:].double().gather(1, choices).unbind(1)
        changed = apply_choices(to_planes(inputs), choices, parameters, self._operations)
        return like(inputs, changed)


def _range(
    name: str, value: float | Sequence[float], neutral: float, low: float, high: float
) -> Range:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= high:
        return max(low, neutral - value), neutral + value
    if isinstance(value, Sequence) and not isinstance(value, str):
        pair = tuple(map(float, value))
        if len(pair) == 2 and low <= pair[0] <= pair[1] <= high:
            return pair
    raise ValueError(
        f"{name} is {value!r}; it must be a number from 0 to {high:g}, or two increasing numbers "
        f"from {low:g} to {high:g}"
    )
