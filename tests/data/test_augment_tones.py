"""Operations on values, and color jitter: torchvision's pictures for the same parameters."""

import itertools

import pytest
import torch
from augmenting import GREY, IMAGES, chi_square, draws_of, is_far

from dltrain.data import tones
from dltrain.data.color import ColorJitter

MANY = 60_000
FACTORS = torch.rand(64, generator=torch.Generator().manual_seed(1)).double()
# operation: torchvision's function, parameters, tolerance. Grey is rounded down from an exact sum
# here and from float32 there, and a hue is found by another formula
SAME = {
    "brightness": ("adjust_brightness", 2 * FACTORS, 0),
    "contrast": ("adjust_contrast", 2 * FACTORS, 1),
    "saturation": ("adjust_saturation", 2 * FACTORS, 1),
    "sharpness": ("adjust_sharpness", 2 * FACTORS, 1),
    "hue": ("adjust_hue", FACTORS - 0.5, 1),
    "posterize": ("posterize", (FACTORS * 9).floor(), 0),
    "solarize": ("solarize", 255 * FACTORS, 0),
    "autocontrast": ("autocontrast", None, 0),
    "equalize": ("equalize", None, 0),
}
EXTREMES = torch.stack(
    [
        torch.zeros(3, 20, 24),
        torch.full((3, 20, 24), 255),
        torch.full((3, 20, 24), 7),
        (torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(2)) > 0.5) * 255,
    ]
).to(torch.uint8)
images_of_all_kinds = pytest.mark.parametrize(
    "images",
    [IMAGES, GREY, EXTREMES, IMAGES[:, :, :2, :2], IMAGES[:8].repeat(1, 1, 2, 2)],
    ids=["color", "grey", "extremes", "tiny", "large"],
)


@pytest.mark.parametrize("name", SAME)
@images_of_all_kinds
def test_operation_is_torchvisions(name, images):
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    theirs, parameters, tolerance = SAME[name]
    arguments = [()] * len(images)
    if parameters is not None:
        as_whole = int if name == "posterize" else float
        arguments = [(as_whole(each),) for each in parameters[: len(images)]]
    expected = torch.stack(
        [
            getattr(functional, theirs)(image, *each)
            for image, each in zip(images, arguments, strict=True)
        ]
    )
    ours = getattr(tones, name)(
        images, FACTORS if parameters is None else parameters[: len(images)]
    )
    assert not is_far(ours, expected, tolerance).any()
    assert is_far(ours, expected, 0).double().mean() < 1e-3


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "sharpness"])
def test_factor_1_changes_nothing(name):
    assert torch.equal(getattr(tones, name)(IMAGES, torch.ones(64).double()), IMAGES)


def test_hue_0_changes_nothing():
    assert torch.equal(tones.hue(IMAGES, torch.zeros(64).double()), IMAGES)


# ---------------------------------------------------------------------- color jitter


def jitter(**changed):
    off = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    return ColorJitter(**(off | changed))


@pytest.mark.parametrize("images", [IMAGES, GREY], ids=["color", "grey"])
def test_jitter_is_torchvisions_for_the_same_factors_and_order(images):
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    part = jitter(brightness=0.4, contrast=0.5, saturation=[0.2, 1.5], hue=0.2)
    draws = draws_of(part, shape=tuple(images.shape[1:]))
    names, expected = ("brightness", "contrast", "saturation", "hue"), []
    orders = list(itertools.permutations(range(4)))
    for image, (order, *factors) in zip(images, draws.tolist(), strict=True):
        for place in orders[int(order)]:
            image = getattr(functional, f"adjust_{names[place]}")(image, factors[place])
        expected.append(image)
    ours = part(images, draws)
    # a hue follows values that may differ by 1: where they are dark, that is another hue
    assert is_far(ours, torch.stack(expected), 1).double().mean() < 1e-3
    assert is_far(ours, torch.stack(expected), 0).double().mean() < 5e-3
    assert not torch.equal(ours, images)


def test_factors_and_orders_are_uniform():
    draws = draws_of(jitter(brightness=0.4, saturation=2, hue=[-0.1, 0.3]), MANY)
    assert abs(chi_square(draws[:, 0].long(), 6)) < 5
    for column, low, high in ((1, 0.6, 1.4), (2, 0, 3), (3, -0.1, 0.3)):
        uniform = (draws[:, column].double() - low) / (high - low)
        assert -1e-6 < uniform.min() < uniform.max() < 1 + 1e-6
        assert abs(chi_square((uniform * 32).long().clamp(0, 31), 32)) < 5
    pairs = [(draws[:, k] - draws[:, k].amin()) / draws[:, k].aminmax().max for k in (1, 2)]
    both = [(each.argsort().argsort() * 8 // MANY) for each in pairs]
    assert abs(chi_square(both[0] * 8 + both[1], 64)) < 5


def test_jitter_of_nothing_is_nothing():
    part = jitter()
    assert torch.equal(part(IMAGES, draws_of(part)), IMAGES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jitter(brightness=-0.1), "brightness is -0.1; it must be a number from 0 to 100"),
        (lambda: jitter(contrast=[0.5, 0.4]), r"contrast is \[0.5, 0.4\]"),
        (lambda: jitter(saturation=[-0.5, 0.4]), r"saturation is \[-0.5, 0.4\]"),
        (lambda: jitter(hue=0.6), "hue is 0.6; it must be a number from 0 to 0.5"),
        (lambda: jitter(hue=[-0.6, 0]), r"hue is \[-0.6, 0\].* from -0.5 to 0.5"),
        (lambda: jitter(hue="0.1"), "hue is '0.1'"),
        (lambda: draws_of(jitter(), shape=(4, 8, 8)), "4 channels; it must have 1 or 3"),
    ],
)
def test_impossible_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
