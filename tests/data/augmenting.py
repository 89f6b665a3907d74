"""What the tests of augmentations share: images, draws, and how uniform counts are."""

import torch

from dltrain.data.randomness import Draws

# Of smooth gradients and noise, so that no operation finds all values alike
_NOISE = torch.randint(0, 256, (64, 3, 20, 24), generator=torch.Generator().manual_seed(0))
_RAMP = torch.arange(24) * 8 + torch.arange(20)[:, None] * 2
IMAGES = torch.where(torch.arange(64)[:, None, None, None] % 2 == 0, _NOISE, (_NOISE // 4 + _RAMP))
IMAGES = IMAGES.clamp(0, 255).to(torch.uint8)
GREY = IMAGES[:, :1].contiguous()


def draws_of(part, num=64, shape=(3, 20, 24), seed=0):
    return part.draw(Draws(seed, 0, 0, torch.arange(num)), shape)


def chi_square(values: torch.Tensor, num_bins: int) -> float:
    """Whole numbers in [0, num_bins): in standard deviations from what uniform counts give."""
    counts = torch.bincount(values, minlength=num_bins).double()
    assert len(counts) == num_bins
    expected = len(values) / num_bins
    statistic = ((counts - expected) ** 2 / expected).sum().item()
    freedom = num_bins - 1
    return (statistic - freedom) / (2 * freedom) ** 0.5


def is_far(transformed: torch.Tensor, expected: torch.Tensor, tolerance: int) -> torch.Tensor:
    """bool [n, C, H, W]: where two images of uint8 differ by more than `tolerance`."""
    assert transformed.shape == expected.shape
    assert transformed.dtype == expected.dtype == torch.uint8
    return (transformed.int() - expected.int()).abs() > tolerance
