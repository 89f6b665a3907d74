"""Crop and flip: torchvision's pictures for the same numbers, alone and in any combination."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dltrain.data.augment import Crop, Flip, Movement, Pixels, move_images
from dltrain.data.randomness import Draws

IMAGES = torch.randint(
    1, 256, (12, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def _draws(part, num=12, seed=0):
    return part.draw(Draws(seed, 0, 0, torch.arange(num)), (3, 9, 7))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_crop_is_torchvisions_pad_and_crop(channels):
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    images = IMAGES[:, :1].expand(-1, channels, -1, -1)
    crop = Crop(padding=4)
    draws = _draws(crop)
    padded = functional.pad(images, [4])
    expected = [
        functional.crop(image, int(down), int(right), 9, 7)
        for image, (down, right) in zip(padded, draws, strict=True)
    ]
    assert torch.equal(crop(images, draws), torch.stack(expected))


def test_flip_is_torchs_flip_where_drawn():
    flip = Flip(probability=0.5)
    draws = _draws(flip)
    assert 0 < draws.sum() < len(draws)
    expected = torch.where(draws[:, None, None, None], IMAGES.flip(3), IMAGES)
    assert torch.equal(flip(IMAGES, draws), expected)


@settings(deadline=None, max_examples=50)
@given(
    parts=st.lists(
        st.one_of(
            st.integers(0, 12).map(lambda p: Crop(padding=p)), st.just(Flip(probability=0.5))
        ),
        max_size=4,
    ),
    seed=st.integers(0, 1000),
)
def test_moves_in_one_gather_are_the_same_as_one_after_the_other(parts, seed):
    moves = [(part, _draws(part, seed=seed + number)) for number, part in enumerate(parts)]
    expected = IMAGES
    for part, draws in moves:
        expected = part(expected, draws)
    assert torch.equal(move_images(IMAGES, moves), expected)


def test_pixels_reads_any_samples_in_any_order():
    index = torch.tensor([7, 0, 7, 3])
    read = Pixels(IMAGES).read(index, [])
    assert torch.equal(read, IMAGES[index])
    assert read.is_contiguous(memory_format=torch.channels_last)


def test_crop_reaches_every_corner_equally():
    draws = Crop(padding=2).draw(Draws(0, 0, 0, torch.arange(50_000)), (1, 28, 28))
    counts = torch.bincount(draws[:, 0] * 5 + draws[:, 1], minlength=25)
    assert draws.min() == 0
    assert draws.max() == 4
    assert (counts - 2000).abs().max() < 250  # 5.6 standard deviations


def test_neutral_parts_change_nothing():
    crop, flip = Crop(padding=0), Flip(probability=0.0)
    assert torch.equal(crop(IMAGES, _draws(crop)), IMAGES)
    assert torch.equal(flip(IMAGES, _draws(flip)), IMAGES)


def test_both_are_movements():
    assert isinstance(Crop(padding=1), Movement)
    assert isinstance(Flip(probability=1), Movement)


@pytest.mark.parametrize("padding", [-1, 1.5, True, 2000, "4"])
def test_impossible_padding_is_refused(padding):
    with pytest.raises(ValueError, match="padding is"):
        Crop(padding=padding)


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_impossible_probability_is_refused(probability):
    with pytest.raises(ValueError, match=r"probability is .* \[0, 1\]"):
        Flip(probability=probability)


@pytest.mark.parametrize("size", [40, 80])  # below and above what is mirrored one by one
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_flip_alone_mirrors_those_that_were_drawn_and_leaves_its_input(size, form):
    images = torch.randint(0, 256, (6, 3, size, size), dtype=torch.uint8)
    images = images.contiguous(memory_format=form)
    before, draws = images.clone(), torch.tensor([True, False, True, True, False, False])
    flipped = Flip(probability=0.5)(images, draws)
    for image, result, mirrored in zip(images, flipped, draws.tolist(), strict=True):
        assert torch.equal(result, image.flip(2) if mirrored else image)
    assert torch.equal(images, before)
    assert flipped.is_contiguous(memory_format=form)
