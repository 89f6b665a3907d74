"""RandAugment and TrivialAugment: torchvision's pictures for the same draws, evenly distributed."""

import pytest
import torch
from augmenting import GREY, IMAGES, chi_square, draws_of, is_far

from dltrain.data.policies import NAMES, RandAugment, TrivialAugment

MANY = 60_000
BINS = 31


def rand_augment(**changed):
    return RandAugment(**({"num_ops": 2, "magnitude": 9, "num_magnitude_bins": BINS} | changed))


def trivial_augment(num_magnitude_bins=BINS):
    return TrivialAugment(num_magnitude_bins=num_magnitude_bins)


def theirs(policy, image, codes, num_bins):
    """torchvision's policy with the operation, bin and sign of each code."""
    for code in codes:
        name, place, negative = NAMES[code // (2 * num_bins)], code // 2 % num_bins, code % 2
        magnitudes, signed = policy._AUGMENTATION_SPACE[name]
        of_bins = magnitudes(num_bins, *image.shape[1:])
        magnitude = 0.0 if of_bins is None else float(of_bins[place])
        magnitude *= -1 if signed and negative else 1
        image = policy._apply_image_or_video_transform(
            image, name, magnitude, policy.interpolation, policy._fill
        )
    return image


@pytest.mark.parametrize("images", [IMAGES, GREY], ids=["color", "grey"])
@pytest.mark.parametrize(
    ("part", "name", "num_bins"),
    [
        (rand_augment(), "RandAugment", BINS),
        (rand_augment(num_ops=1, magnitude=4, num_magnitude_bins=5), "RandAugment", 5),
        (trivial_augment(), "TrivialAugmentWide", BINS),
    ],
)
def test_policy_is_torchvisions_for_the_same_draws(part, name, num_bins, images):
    transforms = pytest.importorskip("torchvision.transforms.v2")
    draws = draws_of(part, 448, tuple(images.shape[1:]))
    images = images.repeat(7, 1, 1, 1)
    policy = getattr(transforms, name)()
    expected = torch.stack(
        [
            theirs(policy, image, codes, num_bins)
            for image, codes in zip(images, draws.tolist(), strict=True)
        ]
    )
    ours = part(images, draws)
    # A value may differ by 1 in 255 where a product is rounded; then another is posterized or
    # inverted, and a place that lies right between two pixels may be read from the other one
    assert is_far(ours, expected, 1).double().mean() < 1e-3
    assert is_far(ours, expected, 0).double().mean() < 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_every_operation_is_torchvisions_at_every_strength(name):
    transforms = pytest.importorskip("torchvision.transforms.v2")
    part, policy, image = trivial_augment(), transforms.TrivialAugmentWide(), IMAGES[1]
    codes = NAMES.index(name) * BINS * 2 + torch.arange(BINS * 2)
    ours = part(image.expand(BINS * 2, -1, -1, -1), codes[:, None])
    expected = [theirs(policy, image, [code], BINS) for code in codes.tolist()]
    tolerance = 1 if name in ("Color", "Contrast", "Sharpness") else 0
    assert not is_far(ours, torch.stack(expected), tolerance).any()


def test_operations_signs_and_strengths_are_equally_likely():
    codes = draws_of(trivial_augment(), MANY)[:, 0]
    assert abs(chi_square(codes, len(NAMES) * BINS * 2)) < 5


def test_operations_of_rand_augment_are_drawn_independently():
    first, second = draws_of(rand_augment(), MANY).unbind(1)
    assert (first // 2 % BINS == 9).all()
    assert abs(chi_square(first // (2 * BINS) * 2 + first % 2, len(NAMES) * 2)) < 5
    both = first // (2 * BINS) * len(NAMES) + second // (2 * BINS)
    assert abs(chi_square(both, len(NAMES) ** 2)) < 5


def test_operations_are_applied_in_the_order_in_which_they_were_drawn():
    part = rand_augment()
    single = rand_augment(num_ops=1)
    draws = draws_of(part)
    one_by_one = single(single(IMAGES, draws[:, :1]), draws[:, 1:])
    assert torch.equal(part(IMAGES, draws), one_by_one)
    assert not torch.equal(part(IMAGES, draws.flip(1)), one_by_one)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rand_augment(num_ops=0), "num_ops is 0; it must be a whole number from 1 to 16"),
        (lambda: rand_augment(magnitude=31), "magnitude is 31; it must .* from 0 to 30"),
        (lambda: rand_augment(magnitude=1.5), "magnitude is 1.5"),
        (lambda: trivial_augment(1), "num_magnitude_bins is 1; it must .* from 2"),
        (lambda: draws_of(rand_augment(), shape=(2, 8, 8)), "2 channels; it must have 1 or 3"),
        (lambda: draws_of(trivial_augment(), shape=(4, 8, 8)), "4 channels; it must have 1 or 3"),
    ],
)
def test_impossible_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
