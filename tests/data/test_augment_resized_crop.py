"""Random resized crop: torchvision's pictures for the same parts, evenly distributed."""

import pytest
import torch
from augmenting import GREY, IMAGES, chi_square, draws_of, is_far

from dltrain.data.augment import Flip
from dltrain.data.resized_crop import RandomResizedCrop

MANY = 60_000
LARGE = torch.randint(
    0, 256, (6, 3, 200, 150), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def crop(**changed):
    return RandomResizedCrop(
        **({"size": None, "scale": [0.08, 1.0], "ratio": [0.75, 4 / 3]} | changed)
    )


# Without AVX2 torch resizes bytes as float32, and rounds once
NATIVE = 0 if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") else 1


# Where a side becomes less than about half as long, torch has more bits in its weights than fit
# into float32
@pytest.mark.parametrize(
    ("images", "size", "tolerance"),
    [
        (IMAGES, None, 0),
        (GREY, None, 0),
        (IMAGES, (40, 50), 0),
        (IMAGES, (33, 7), 0),
        (IMAGES, (20, 24), 0),
        (IMAGES, (1, 1), 1),
        (LARGE, None, 0),
        (LARGE, (160, 160), 0),
        (LARGE, (32, 32), 1),
        (LARGE, (9, 60), 1),
    ],
)
def test_resized_crop_is_torchvisions(images, size, tolerance):
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    part = crop(size=size)
    draws = draws_of(part, len(images), tuple(images.shape[1:]))
    expected = [
        functional.resized_crop(
            image, *map(int, box), list(size or images.shape[2:]), antialias=True
        )
        for image, box in zip(images, draws, strict=True)
    ]
    ours = part(images, draws)
    assert not is_far(ours, torch.stack(expected), tolerance + NATIVE).any()


def test_the_whole_image_stays_as_it_is():
    part = crop(scale=[1.0, 1.0], ratio=[1.2, 1.2])
    draws = draws_of(part)
    assert (draws == torch.tensor([0, 0, 20, 24])).all()
    assert torch.equal(part(IMAGES, draws), IMAGES)


def test_the_whole_image_at_half_its_size_is_torchvisions():
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    part = crop(scale=[1.0, 1.0], ratio=[1.2, 1.2], size=(10, 12))
    expected = functional.resize(IMAGES, [10, 12], antialias=True)
    assert not is_far(part(IMAGES, draws_of(part)), expected, 1 + NATIVE).any()


def test_sides_are_rounded_to_the_nearest_pixel():
    part = crop(scale=[0.31, 0.31], ratio=[1.0, 1.0])  # the root of 31 is 5.57
    assert (draws_of(part, shape=(3, 10, 10))[:, 2:] == 6).all()


def test_area_and_ratio_are_uniform():
    boxes = draws_of(crop(scale=[0.1, 0.4]), MANY, (3, 2400, 2400)).double()
    area = (boxes[:, 2] * boxes[:, 3] / 2400**2 - 0.1) / 0.3
    log_ratio = (boxes[:, 3] / boxes[:, 2]).log() / (2 * torch.tensor(4 / 3).log()) + 0.5
    for uniform in (area, log_ratio):
        assert abs(chi_square((uniform * 16).floor().long().clamp(0, 15), 16)) < 5
    both = (area * 4).long().clamp(0, 3) * 4 + (log_ratio * 4).long().clamp(0, 3)
    assert abs(chi_square(both, 16)) < 5


def test_place_is_uniform():
    boxes = draws_of(crop(scale=[0.25, 0.25], ratio=[1.0, 1.0]), MANY, (3, 32, 32))
    assert (boxes[:, 2:] == 16).all()
    assert abs(chi_square(boxes[:, 0] * 17 + boxes[:, 1], 17 * 17)) < 5


@pytest.mark.parametrize(
    ("shape", "box"), [((3, 20, 60), [0, 16, 20, 27]), ((3, 60, 20), [16, 0, 27, 20])]
)
def test_what_no_try_fits_is_the_largest_fair_part_in_the_middle(shape, box):
    """As torchvision's: an image three times as long as wide has no part of its whole area."""
    part = crop(scale=[0.99, 1.0])
    assert (draws_of(part, shape=shape) == torch.tensor(box)).all()


def test_flip_after_it_keeps_the_memory_format():
    flip = Flip(probability=0.5)
    draws = draws_of(flip)
    expected = torch.where(draws[:, None, None, None], IMAGES.flip(3), IMAGES)
    for images in (IMAGES, IMAGES.contiguous(memory_format=torch.channels_last)):
        flipped = flip(images, draws)
        assert torch.equal(flipped, expected)
        assert flipped.stride() == images.stride()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: crop(size=0), "size is 0; it must be a whole number of pixels from 1 to 4096"),
        (lambda: crop(size=[8]), r"size is \[8\]"),
        (lambda: crop(scale=[0.0, 1.0]), r"scale is \[0.0, 1.0\]; it must be two increasing"),
        (lambda: crop(ratio=[4 / 3, 3 / 4]), "ratio is"),
    ],
)
def test_impossible_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
