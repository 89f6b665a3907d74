"""RandAugment and TrivialAugment: each image is changed by operations drawn from fourteen."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dltrain.data import tones
from dltrain.data.affine import Matrix, move_affinely, rotation, shear_x, shear_y, translation
from dltrain.data.choices import apply_choices
from dltrain.data.chunks import in_chunks
from dltrain.data.planes import like, to_planes
from dltrain.data.randomness import Draws

Magnitudes = Callable[[int, int, int], Tensor]  # of (number of bins, height, width)

# What becomes of a (signed) magnitude: the parameters of one of _OPERATIONS
_MATRICES: dict[str, Callable[[float, int, int], Matrix]] = {
    "ShearX": lambda m, height, width: shear_x(m, height),
    "ShearY": lambda m, height, width: shear_y(m, width),
    "TranslateX": lambda m, height, width: translation(right=int(m)),
    "TranslateY": lambda m, height, width: translation(down=int(m)),
    "Rotate": lambda m, height, width: rotation(m),
}
_FACTORS = ("Brightness", "Color", "Contrast", "Sharpness")
NAMES = ("Identity", *_MATRICES, *_FACTORS, "Posterize", "Solarize", "AutoContrast", "Equalize")
# The five that move pixels are one operation with different matrices
_OPERATIONS = (
    None,
    lambda images, rows: move_affinely(images, rows),
    *(
        lambda images, rows, operation=operation: operation(images, rows[:, 0])
        for operation in (
            tones.brightness,
            tones.saturation,
            tones.contrast,
            tones.sharpness,
            tones.posterize,
            tones.solarize,
            tones.autocontrast,
            tones.equalize,
        )
    ),
)
_OPERATION_OF_NAME = (0, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9)


class _Space:
    """The fourteen operations with the magnitudes of a policy.

    A code is (operation * bins + bin) * 2 + sign; sign 1 is negative.
    """

    def __init__(self, num_bins: int, highest: Mapping[str, Magnitudes]) -> None:
        self.num_bins = num_bins
        self._magnitudes = highest
        self._tables: dict[tuple[int, int, torch.device], tuple[Tensor, Tensor]] = {}

    def codes(self, operations: Tensor, bins: Tensor | int, negative: Tensor) -> Tensor:
        return (operations * self.num_bins + bins) * 2 + negative

    def apply(self, inputs: Tensor, codes: Tensor) -> Tensor:
        """uint8 [n, C, H, W], changed by the operations of codes, int64 [n, S], in their order."""
        height, width = inputs.shape[2:]
        key = (height, width, inputs.device)
        if key not in self._tables:
            self._tables[key] = self._table(*key)
        operation_of_name, parameters = self._tables[key]
        choices = operation_of_name[codes // (2 * self.num_bins)]
        rows = [parameters[code] for code in codes.unbind(1)]
        return like(inputs, apply_choices(to_planes(inputs), choices, rows, _OPERATIONS))

    def _table(self, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        rows = []
        for name in NAMES:
            bins = torch.zeros(self.num_bins)
            if name in self._magnitudes:
                bins = self._magnitudes[name](self.num_bins, height, width)
            for magnitude in bins.tolist():
                for signed in (magnitude, -magnitude):
                    if name in _MATRICES:
                        rows.append(_MATRICES[name](signed, height, width))
                    else:
                        value = 1.0 + signed if name in _FACTORS else abs(magnitude)
                        rows.append((value, *[0.0] * 5))
        table = torch.tensor(rows, dtype=torch.float64, device=device)
        return torch.tensor(_OPERATION_OF_NAME, device=device), table


class RandAugment:
    """`num_ops` operations out of fourteen, drawn anew for each image, all of one strength.

    magnitude: the strength, from 0 to num_magnitude_bins - 1. Cubuk et al. 2019; as torchvision's
    RandAugment.
    """

    def __init__(self, *, num_ops: int, magnitude: int, num_magnitude_bins: int) -> None:
        _check("num_ops", num_ops, 1, 16)
        _check("num_magnitude_bins", num_magnitude_bins, 2, 1000)
        _check("magnitude", magnitude, 0, num_magnitude_bins - 1)
        self.num_ops, self.magnitude = num_ops, magnitude
        self._space = _Space(
            num_magnitude_bins,
            {
                "ShearX": _up_to(0.3),
                "ShearY": _up_to(0.3),
                "TranslateX": lambda n, height, width: torch.linspace(0, 150 / 331 * width, n),
                "TranslateY": lambda n, height, width: torch.linspace(0, 150 / 331 * height, n),
                "Rotate": _up_to(30.0),
                **dict.fromkeys(_FACTORS, _up_to(0.9)),
                "Posterize": _bits(4),
                "Solarize": _thresholds,
            },
        )

    def draw(self, random: Draws, image_shape: tuple[int, ...]) -> Tensor:
        """int64 [n, num_ops]: operation, magnitude and sign, as one number."""
        _check_channels(image_shape)
        codes = [
            self._space.codes(
                random.integers(2 * each, len(NAMES)),
                self.magnitude,
                random.integers(2 * each + 1, 2),
            )
            for each in range(self.num_ops)
        ]
        return torch.stack(codes, dim=1)

    def __call__(self, inputs: Tensor, draws: Tensor) -> Tensor:
        return in_chunks(self._space.apply, inputs, draws)


class TrivialAugment:
    """One operation out of fourteen, of any strength, drawn anew for each image.

    Mueller & Hutter 2021, the wide space; as torchvision's TrivialAugmentWide.
    """

    def __init__(self, *, num_magnitude_bins: int) -> None:
        _check("num_magnitude_bins", num_magnitude_bins, 2, 1000)
        self._space = _Space(
            num_magnitude_bins,
            {
                **dict.fromkeys(("ShearX", "ShearY"), _up_to(0.99)),
                **dict.fromkeys(("TranslateX", "TranslateY"), _up_to(32.0)),
                "Rotate": _up_to(135.0),
                **dict.fromkeys(_FACTORS, _up_to(0.99)),
                "Posterize": _bits(6),
                "Solarize": _thresholds,
            },
        )

    def draw(self, random: Draws, image_shape: tuple[int, ...]) -> Tensor:
        """int64 [n, 1]: operation, magnitude and sign, as one number."""
        _check_channels(image_shape)
        operations = random.integers(0, len(NAMES))
        bins = random.integers(1, self._space.num_bins)
        return self._space.codes(operations, bins, random.integers(2, 2))[:, None]

    def __call__(self, inputs: Tensor, draws: Tensor) -> Tensor:
        return in_chunks(self._space.apply, inputs, draws)


def _up_to(highest: float) -> Magnitudes:
    return lambda num_bins, height, width: torch.linspace(0, highest, num_bins)


def _bits(fewer: int) -> Magnitudes:
    """Of the eight, down to 8 - fewer."""
    return lambda num_bins, height, width: (
        8 - torch.arange(num_bins) / ((num_bins - 1) / fewer)
    ).round()


def _thresholds(num_bins: int, height: int, width: int) -> Tensor:
    return 255 * torch.linspace(1, 0, num_bins).double()


def _check(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; it must be a whole number from {low} to {high}")


def _check_channels(image_shape: tuple[int, ...]) -> None:
    if image_shape[0] not in (1, 3):
        raise ValueError(f"the image has {image_shape[0]} channels; it must have 1 or 3")
