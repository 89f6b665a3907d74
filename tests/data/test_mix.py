"""Mixup and cutmix: torchvision's images and labels for the same numbers, by the sample."""

import math

import pytest
import torch
from augmenting import IMAGES, chi_square, draws_of

from dltrain.config.check import check
from dltrain.config.compose import compose, job_config
from dltrain.config.rules import part_problems
from dltrain.data.mix import CutMix, MixUp, beta_quantiles, draw_shares
from dltrain.data.mixer import Mixer
from dltrain.data.randomness import Draws
from dltrain.errors import UserError

MANY = 60_000
NUM_CLASSES = 7
TARGETS = torch.arange(64) * 5 % NUM_CLASSES
NORMALISED = (IMAGES.float() / 255 - 0.4) / 0.3
CDFS = {  # of Beta(alpha, alpha), where it has a closed form
    0.5: lambda x: 2 / math.pi * x.sqrt().asin(),
    1.0: lambda x: x,
    2.0: lambda x: x**2 * (3 - 2 * x),
    3.0: lambda x: x**3 * (10 - 15 * x + 6 * x**2),
}
both_formats = pytest.mark.parametrize(
    "images",
    [
        NORMALISED,
        NORMALISED.contiguous(memory_format=torch.channels_last),
        NORMALISED[:, :1].contiguous(),
    ],
    ids=["channels first", "channels last", "grey"],
)


def mixup(**options):
    return MixUp(**{"alpha": 0.4, "num_classes": NUM_CLASSES} | options)


def cutmix(**options):
    return CutMix(**{"alpha": 1.0, "num_classes": NUM_CLASSES} | options)


def mixed_by(parts, images=NORMALISED, targets=TARGETS):
    """Images and targets of one batch, mixed by `parts`, and the draws."""
    index = torch.arange(len(images))
    mixer = Mixer(parts, targets, num_parts=0, has_partner=False)
    draws = mixer.draw(0, 0, index, tuple(images.shape[1:]))
    (inputs, labels, same), sizes = mixer((images, targets, index), draws, [len(images)])
    assert torch.equal(same, index)
    assert sizes == [len(images)]
    return inputs, labels, draws


def torchvisions(name, params, images):
    """torchvision's whole batch for the parameters of each sample, and of it that sample."""
    v2 = pytest.importorskip("torchvision.transforms.v2")
    transform = getattr(v2, name)(num_classes=NUM_CLASSES)
    rows = []
    for row, each in enumerate(params):
        each |= {"labels": TARGETS, "batch_size": len(images)}
        pair = transform.transform(images, each), transform.transform(TARGETS, each)
        rows.append([column[row] for column in pair])
    return [torch.stack(column) for column in zip(*rows, strict=True)]


# ---------------------------------------------------------------------- the same as torchvision's


@both_formats
def test_mixup_is_torchvisions(images):
    inputs, targets, (shares,) = mixed_by([mixup()], images)
    params = [{"lam": share} for share in shares.tolist()]
    expected = torchvisions("MixUp", params, images)
    assert torch.equal(inputs, expected[0])
    assert torch.equal(targets, expected[1])
    assert inputs.stride() == images.stride()


@both_formats
def test_cutmix_is_torchvisions(images):
    inputs, targets, (boxes,) = mixed_by([cutmix()], images)
    params = [
        {
            "box": (left, top, left + width, top + height),
            "lam_adjusted": 1.0 - width * height / (20 * 24),
        }
        for top, left, height, width in boxes.tolist()
    ]
    expected = torchvisions("CutMix", params, images)
    assert torch.equal(inputs, expected[0])
    assert torch.equal(targets, expected[1])


def test_boxes_are_those_that_torchvision_makes_of_the_same_numbers():
    index = torch.arange(500)
    random = Draws(0, 0, 0, index)
    shares = draw_shares(random, beta_quantiles(1.0)).tolist()
    expected = []
    for share, y, x in zip(shares, random.integers(2, 20), random.integers(3, 24), strict=True):
        half = 0.5 * math.sqrt(1.0 - share)  # torchvision.transforms.v2.CutMix.make_params
        tall, wide = int(half * 20), int(half * 24)
        top, left = max(int(y) - tall, 0), max(int(x) - wide, 0)
        bottom, right = min(int(y) + tall, 20), min(int(x) + wide, 24)
        expected.append([top, left, bottom - top, right - left])
    assert draws_of(cutmix(), 500).tolist() == expected


# ---------------------------------------------------------------------- distributions


@pytest.mark.parametrize("alpha", CDFS)
def test_shares_are_quantiles_of_the_beta_distribution(alpha):
    quantiles = beta_quantiles(alpha)
    middles = (torch.arange(4096) + 0.5) / 4096
    torch.testing.assert_close(CDFS[alpha](quantiles), middles.double(), rtol=0, atol=1e-4)
    assert torch.equal(quantiles.flip(0), 1 - quantiles)
    assert torch.equal(quantiles.float().double(), quantiles)
    assert torch.equal((1 - quantiles).float().double(), 1 - quantiles)


@pytest.mark.parametrize("alpha", [1e-6, 0.05, 0.2, 1.3, 20, 1000])
def test_mean_and_variance_of_any_alpha(alpha):
    quantiles = beta_quantiles(alpha)
    assert ((quantiles >= 0) & (quantiles <= 1)).all()
    assert (quantiles.diff() >= 0).all()
    variance = 1 / (4 * (2 * alpha + 1))
    assert quantiles.var(correction=0).item() == pytest.approx(variance, rel=1e-3)


@pytest.mark.parametrize("alpha", CDFS)
def test_shares_that_are_drawn_are_beta_distributed(alpha):
    shares = draws_of(mixup(alpha=alpha), MANY)
    bins = (CDFS[alpha](shares) * 64).long().clamp(0, 63)
    assert abs(chi_square(bins, 64)) < 5


def test_every_pixel_is_equally_likely_the_centre_of_a_box():
    boxes = draws_of(cutmix(alpha=1e-6), MANY)  # none of the image, where not the whole
    empty = boxes[boxes[:, 2] == 0]
    assert len(empty) > MANY / 3
    assert abs(chi_square(empty[:, 0] * 24 + empty[:, 1], 20 * 24)) < 5


@pytest.mark.parametrize("make", [mixup, cutmix])
def test_samples_are_mixed_with_their_probability(make):
    for probability in (0.0, 0.3, 1.0):
        draws = draws_of(make(alpha=1.0, probability=probability), MANY, (3, 2000, 2000))
        is_mixed = draws < 1 if draws.dim() == 1 else draws[:, 2] > 0
        bound = 5 * (probability * (1 - probability) / MANY) ** 0.5 + 2e-3
        assert abs(is_mixed.double().mean().item() - probability) < bound


def test_each_of_several_parts_is_equally_likely():
    parts = [mixup(probability=0.5), cutmix(), mixup(alpha=1.0)]
    index = torch.arange(MANY)
    mixer = Mixer(parts, TARGETS, num_parts=2, has_partner=False)
    draws = mixer.draw(0, 0, index, (3, 20, 24))
    assert len(draws) == 4
    assert abs(chi_square(draws[-1], 3)) < 5
    both = draws[-1] * 16 + (CDFS[1.0](draws[2]) * 16).long().clamp(max=15)
    assert abs(chi_square(both, 48)) < 5  # a choice tells nothing of the share
    both = draws[-1] * 2 + (draws[0] < 1)
    assert abs(chi_square(both, 6)) < 5  # nor of whether the sample is mixed


# ---------------------------------------------------------------------- several parts, and none


@both_formats
def test_each_sample_is_mixed_by_the_part_that_it_drew(images):
    parts = [mixup(), cutmix()]
    inputs, targets, draws = mixed_by(parts, images)
    for number, part in enumerate(parts):
        mixer = Mixer([part], TARGETS, num_parts=number, has_partner=False)
        index = torch.arange(len(images))
        own = mixer.draw(0, 0, index, tuple(images.shape[1:]))
        (expected, labels, _), _ = mixer((images, TARGETS, index), own, [len(images)])
        takes = draws[-1] == number
        assert takes.any()
        assert torch.equal(inputs[takes], expected[takes])
        assert torch.equal(targets[takes], labels[takes])


def test_shares_of_a_label_are_those_of_the_pixels():
    ones_and_zeros = (torch.arange(64) % 2).float()[:, None, None, None].expand(64, 1, 20, 24)
    for part in (mixup(), cutmix()):
        targets = torch.arange(64) % 2
        inputs, shares, _ = mixed_by([part], ones_and_zeros.contiguous(), targets)
        assert shares.shape == (64, NUM_CLASSES)
        assert shares.dtype == torch.float32
        torch.testing.assert_close(shares.sum(1), torch.ones(64))
        torch.testing.assert_close(inputs.mean((1, 2, 3)), shares[:, 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [mixup, cutmix])
def test_what_is_not_mixed_stays_to_the_bit(make):
    inputs, targets, _ = mixed_by([make(probability=0.0)])
    assert torch.equal(inputs, NORMALISED)
    assert torch.equal(targets, torch.nn.functional.one_hot(TARGETS, NUM_CLASSES).float())


def test_without_a_part_nothing_is_touched():
    mixer = Mixer([], TARGETS, num_parts=0, has_partner=False)
    columns, sizes = (NORMALISED, TARGETS, TARGETS), [60, 4]
    assert mixer.draw(0, 0, TARGETS, (3, 20, 24)) == []
    after, sizes_after = mixer(columns, [], sizes)
    assert all(a is b for a, b in zip(after, columns, strict=True))
    assert sizes_after is sizes


@pytest.mark.parametrize("make", [mixup, cutmix])
def test_draws_belong_to_samples(make):
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    part, shape = make(), (3, 20, 24)
    draws = part.draw(Draws(1, 2, 3, torch.arange(500)), shape)
    assert torch.equal(part.draw(Draws(1, 2, 3, order), shape), draws[order])
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert not torch.equal(part.draw(Draws(*other, order), shape), draws[order])


# ---------------------------------------------------------------------- arguments


@pytest.mark.parametrize("make", [mixup, cutmix])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("alpha", value) for value in (0, -1, 1001, float("nan"), True)),
        *(("probability", value) for value in (-0.1, 1.1)),
        ("num_classes", 0),
    ],
)
def test_config_and_part_refuse_the_same(make, name, value):
    node = {"_target_": f"dltrain.data.mix.{type(make()).__name__}", name: value}
    ((key, found, _),) = part_problems(iter([("augmentation.mixup", node)]))
    assert key == f"augmentation.mixup.{name}"
    assert found is value
    with pytest.raises(ValueError, match=rf"{name} is .*; it must"):
        make(**{name: value})


def composed(*overrides):
    return check(job_config(compose(overrides)))


def test_targets_have_a_share_for_each_class_of_the_model():
    message = r"mixup.num_classes is 10; it must be model.num_classes, which is 12"
    with pytest.raises(UserError, match=message):
        composed("augmentation=mixup", "model.num_classes=12")
    composed("augmentation=mixup", "model.num_classes=12", "augmentation.mixup.num_classes=12")


def test_classes_that_do_not_fit_are_refused():
    options = {"num_parts": 0, "has_partner": False}
    with pytest.raises(ValueError, match=r"parts that mix is 7 and 8; it must be one number"):
        Mixer([mixup(num_classes=8), cutmix()], TARGETS, **options)
    with pytest.raises(ValueError, match=r"parts that mix is 6; it must be > 6, the highest"):
        Mixer([mixup(num_classes=6)], TARGETS, **options)


def test_choices_are_composed_by_a_list_of_their_names():
    config = composed("augmentation=[crop_flip,mixup_cutmix,cutout]")
    assert list(config["augmentation"]) == ["crop", "flip", "mixup", "cutmix", "cutout"]
    assert composed("augmentation=[]")["augmentation"] == {}
    assert config["augmentation"]["mixup"]["num_classes"] == 10
    without = composed(
        "experiment=digits_cnn", "augmentation=[crop_flip,mixup]", "~augmentation.flip"
    )
    assert list(without["augmentation"]) == ["crop", "mixup"]
