"""Mixup and cutmix: a sample and its partner in one image, their labels in proportion.

Each sample draws for itself, unlike torchvision's MixUp and CutMix, which draw once for a batch;
for equal parameters the images and labels are torchvision's.
"""

import functools

import numpy as np
import torch
from torch import Tensor

from dltrain.data.boxes import image_lines, inside_boxes, like_lines
from dltrain.data.randomness import Draws

# Shares come from a table made on the host: there is no quantile function on a device, and a GPU's
# pow() differs from a CPU's in the last bit.
_NUM_QUANTILES = 4096
_NUM_NODES = 1 << 16


class MixUp:
    """The weighted mean of two images, all pixels alike. Zhang et al. 2018.

    alpha: the sample's own share is drawn from Beta(alpha, alpha); probability: of being mixed at
    all.
    """

    def __init__(self, *, alpha: float, num_classes: int, probability: float = 1.0) -> None:
        check_mixing(alpha, num_classes, probability)
        self.num_classes, self.probability = num_classes, probability
        self._shares = beta_quantiles(alpha)

    def draw(self, random: Draws, image_shape: tuple[int, ...]) -> Tensor:
        """float64 [n]: the sample's own share; 1 leaves it alone."""
        shares = draw_shares(random, self._shares)
        return torch.where(random.happens(0, self.probability), shares, 1.0)

    def mix(self, inputs: Tensor, partners: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        own, other = (share.float()[:, None, None, None] for share in (draws, 1 - draws))
        return (partners * other).add_(inputs * own), draws


class CutMix:
    """A rectangle of the image is the partner's, its centre on any pixel. Yun et al. 2019.

    alpha: the part that stays is drawn from Beta(alpha, alpha), before the rectangle is cut at the
    border; the labels' shares are those of the pixels. probability: of being mixed at all.
    """

    def __init__(self, *, alpha: float, num_classes: int, probability: float = 1.0) -> None:
        check_mixing(alpha, num_classes, probability)
        self.num_classes, self.probability = num_classes, probability
        self._shares = beta_quantiles(alpha)

    def draw(self, random: Draws, image_shape: tuple[int, ...]) -> Tensor:
        """int64 [n, 4]: top, left, height, width, within the image; no height leaves it alone."""
        half = 0.5 * (1 - draw_shares(random, self._shares)).sqrt()  # of each side
        begins, sizes = [], []
        for draw, side in ((2, image_shape[1]), (3, image_shape[2])):
            centre, reach = random.integers(draw, side), (half * side).long()
            begins.append((centre - reach).clamp(min=0))
            sizes.append((centre + reach).clamp(max=side) - begins[-1])
        boxes = torch.stack([*begins, *sizes], dim=1)
        return boxes * random.happens(0, self.probability)[:, None]

    def mix(self, inputs: Tensor, partners: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        height, width = inputs.shape[2:]
        inside = inside_boxes(inputs, draws, inputs.dtype)
        # lerp by 0 or 1 gives either to the bit, in a third of the time of torch.where
        mixed = torch.lerp(image_lines(inputs), image_lines(partners), inside)
        return like_lines(inputs, mixed), 1 - draws[:, 2] * draws[:, 3] / torch.tensor(
            height * width
        ).double()


def check_mixing(alpha: float, num_classes: int, probability: float) -> None:
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= 1000:
        raise ValueError(f"alpha is {alpha!r}; it must be a number > 0 and <= 1000")
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes is {num_classes!r}; it must be a whole number >= 1")
    if not 0 <= probability <= 1:
        raise ValueError(f"probability is {probability!r}; it must lie in [0, 1]")


def draw_shares(random: Draws, quantiles: Tensor) -> Tensor:
    """float64 [n], each of the quantiles equally likely."""
    place = random.integers(1, len(quantiles))
    return quantiles.to(place.device).index_select(0, place)


@functools.cache
def beta_quantiles(alpha: float) -> Tensor:
    """float64 [4096]: the quantiles of Beta(alpha, alpha) in the middle of as many equal parts.

    Multiples of 2**-24, so that they and what they leave of 1 are exact in float32.

    The distribution is its own mirror image, so the lower half is enough. With x = v**p / 2 and
    p = max(1, 1 / alpha), its density in v is v**(p * alpha - 1) * (1 - x)**(alpha - 1): it has no
    pole where alpha < 1, and is integrated by the trapezoidal rule.
    """
    power = max(1.0, 1 / alpha)
    v = np.linspace(0, 1, _NUM_NODES + 1)
    x = v**power / 2
    rise = v ** (power * alpha - 1) if alpha > 1 else np.ones_like(v)
    density = rise * (2 * (1 - x)) ** (alpha - 1) / 2 ** max(0.0, alpha - 1)
    cdf = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    cdf /= 2 * cdf[-1]
    parts = (np.arange(_NUM_QUANTILES // 2) + 0.5) / _NUM_QUANTILES
    lower = np.interp(parts, cdf, v) ** power / 2
    lower = np.round(lower * 2.0**24) / 2.0**24
    return torch.from_numpy(np.concatenate([lower, 1 - lower[::-1]]))
