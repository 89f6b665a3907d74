"""Shift, cutout and erase: torchvision's pictures for the same numbers, evenly distributed."""

import pytest
import torch
from augmenting import GREY, IMAGES, chi_square, draws_of

from dltrain.data.augment import Crop
from dltrain.data.erase import Cutout, Erase
from dltrain.data.shift import Shift

MANY = 60_000


def erase(**changed):
    options = {"probability": 1.0, "scale": [0.02, 0.33], "ratio": [0.3, 3.3], "value": 0}
    return Erase(**options | changed)


def clipped(box, height, width):
    """top, left, height, width of what lies within the image."""
    top, left, tall, wide = map(int, box)
    low, first = max(top, 0), max(left, 0)
    return low, first, min(top + tall, height) - low, min(left + wide, width) - first


@pytest.mark.parametrize("distance", [0, 3, 0.25])
def test_shift_is_torchvisions_translation(distance):
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    shift = Shift(distance=distance)
    draws = draws_of(shift)
    expected = [
        functional.affine(image, 0.0, [int(right), int(down)], 1.0, [0.0, 0.0])
        for image, (down, right) in zip(IMAGES, draws, strict=True)
    ]
    assert torch.equal(shift(IMAGES, draws), torch.stack(expected))


def test_shift_by_pixels_is_a_crop_with_that_padding():
    shift, crop = Shift(distance=3), Crop(padding=3)
    draws = draws_of(shift)  # a picture that moves down is cut out further up
    assert torch.equal(shift(IMAGES, draws), crop(IMAGES, 3 - draws))


def test_every_shift_is_equally_likely():
    draws = draws_of(Shift(distance=0.125), MANY)  # 2 of 20 rows, 3 of 24 columns
    assert draws.amin(0).tolist() == [-2, -3]
    assert draws.amax(0).tolist() == [2, 3]
    assert abs(chi_square((draws[:, 0] + 2) * 7 + draws[:, 1] + 3, 35)) < 5


@pytest.mark.parametrize("size", [0, 1, 5, 8, 0.5])
@pytest.mark.parametrize("images", [IMAGES, GREY], ids=["color", "grey"])
def test_cutout_is_torchvisions_erase(size, images):
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    cutout = Cutout(size=size)
    draws = draws_of(cutout)
    black = torch.zeros(1, 1, 1, dtype=torch.uint8)
    expected = [
        functional.erase(image, *clipped(box, 20, 24), black)
        for image, box in zip(images, draws, strict=True)
    ]
    assert torch.equal(cutout(images, draws), torch.stack(expected))


def test_every_pixel_is_equally_likely_the_centre_of_a_cutout():
    draws = draws_of(Cutout(size=7), MANY)
    assert abs(chi_square((draws[:, 0] + 3) * 24 + draws[:, 1] + 3, 20 * 24)) < 5
    assert (draws[:, 2:] == 7).all()


@pytest.mark.parametrize("value", [0, 77, [125, 123, 114]])
@pytest.mark.parametrize("images", [IMAGES, GREY], ids=["color", "grey"])
def test_erase_is_torchvisions_erase(value, images):
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    if images is GREY and isinstance(value, list):
        pytest.skip("a grey image has no colour")
    part = erase(value=value, probability=0.7)
    draws = draws_of(part, shape=tuple(images.shape[1:]))
    colors = [value] if isinstance(value, int) else value
    color = torch.tensor(colors, dtype=torch.uint8)[:, None, None]
    expected = [
        functional.erase(image, *map(int, box), color)
        for image, box in zip(images, draws, strict=True)
    ]
    assert torch.equal(part(images, draws), torch.stack(expected))


def test_erase_happens_with_its_probability():
    happened = draws_of(erase(probability=0.3), MANY)[:, 2] > 0
    assert abs(happened.double().mean().item() - 0.3) < 5 * (0.3 * 0.7 / MANY) ** 0.5


def test_area_and_ratio_of_what_is_erased_are_uniform():
    shape = (3, 2000, 2400)  # so large that rounding to pixels does not show
    part = erase(scale=[0.1, 0.2], ratio=[0.5, 2.0])
    boxes = draws_of(part, MANY, shape).double()
    tall, wide = boxes[:, 2], boxes[:, 3]
    area = (tall * wide / (2000 * 2400) - 0.1) / 0.1
    log_ratio = (tall / wide).log() / torch.tensor(4.0).log() + 0.5
    for uniform in (area, log_ratio):
        bins = (uniform * 16).floor().long().clamp(0, 15)
        assert abs(chi_square(bins, 16)) < 5
    both = (area * 4).long().clamp(0, 3) * 4 + (log_ratio * 4).long().clamp(0, 3)
    assert abs(chi_square(both, 16)) < 5


def test_place_of_what_is_erased_is_uniform():
    boxes = draws_of(erase(scale=[0.1, 0.1001], ratio=[1.0, 1.0001]), MANY, (3, 30, 32))
    tall, wide = int(boxes[0, 2]), int(boxes[0, 3])
    assert (boxes[:, 2:] == torch.tensor([tall, wide])).all()
    places = (31 - tall) * (33 - wide)
    assert abs(chi_square(boxes[:, 0] * (33 - wide) + boxes[:, 1], places)) < 5


def test_what_fits_nowhere_leaves_the_image_alone():
    part = erase(scale=[1.0, 1.0], ratio=[1.0, 1.0])
    draws = draws_of(part)
    assert (draws == 0).all()
    assert torch.equal(part(IMAGES, draws), IMAGES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shift(distance=-1), "distance is -1; it must be a whole number of pixels"),
        (lambda: Shift(distance=1.5), "distance is 1.5"),
        (lambda: Cutout(size=True), "size is True"),
        (lambda: Cutout(size=float("nan")), "size is nan"),
        (lambda: erase(probability=2), r"probability is 2; .* \[0, 1\]"),
        (lambda: erase(scale=[0.3, 0.2]), r"scale is \[0.3, 0.2\]; it must be two increasing"),
        (lambda: erase(scale=[0, 0.2]), r"scale is \[0, 0.2\]"),
        (lambda: erase(ratio=2), "ratio is 2"),
        (lambda: erase(value=256), "value is 256"),
        (lambda: erase(value=[1, 2]), r"value is \[1, 2\]"),
        (lambda: draws_of(erase(value=[1, 2, 3]), shape=(1, 8, 8)), "images of 1 channels need"),
    ],
)
def test_impossible_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
