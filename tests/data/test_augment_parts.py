"""What every part that changes an image promises: it depends on its own draws alone."""

import importlib
from pathlib import Path

import pytest
import torch
from augmenting import GREY, IMAGES, draws_of
from omegaconf import OmegaConf

from dltrain.config.check import check
from dltrain.config.compose import compose, job_config
from dltrain.data.randomness import Draws
from dltrain.data.resident import ResidentLoader
from dltrain.data.source import ArraySource
from dltrain.data.streamed import StreamedLoader
from dltrain.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs" / "augmentation"

MIXING = ("mixup", "cutmix", "mixup_cutmix")  # two images at a time: test_mix.py


def made(node):
    module, _, name = node["_target_"].rpartition(".")
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    return getattr(importlib.import_module(module), name)(**arguments)


PARTS = {
    f"{path.stem}.{name}": made(node)
    for path in sorted(CONFIGS.glob("*.yaml"))
    if path.stem not in MIXING
    for name, node in (OmegaConf.to_container(OmegaConf.load(path)) or {}).items()
}
each_part = pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
both_images = pytest.mark.parametrize("images", [IMAGES, GREY], ids=["color", "grey"])


@each_part
@both_images
def test_an_image_does_not_depend_on_its_batch(part, images):
    draws = draws_of(part, shape=tuple(images.shape[1:]))
    together = part(images, draws)
    for size in (1, 7):
        pieces = zip(images.split(size), draws.split(size), strict=True)
        alone = [part(piece, rows) for piece, rows in pieces]
        assert torch.equal(torch.cat(alone), together)


@each_part
@both_images
def test_an_image_does_not_depend_on_its_memory_format(part, images):
    draws = draws_of(part, shape=tuple(images.shape[1:]))
    first = part(images.contiguous(), draws)
    last = part(images.contiguous(memory_format=torch.channels_last), draws)
    assert torch.equal(first, last)
    assert last.is_contiguous(memory_format=torch.channels_last)


@each_part
@both_images
def test_images_stay_what_they_were_and_none_at_all_will_do(part, images):
    draws, before = draws_of(part, shape=tuple(images.shape[1:])), images.clone()
    after = part(images, draws)
    assert after.shape == images.shape
    assert after.dtype == torch.uint8
    assert torch.equal(images, before)
    assert part(images[:0], draws[:0]).shape == images[:0].shape


@each_part
def test_draws_belong_to_samples_and_change_with_seed_and_epoch(part):
    index = torch.arange(500)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    draws = part.draw(Draws(1, 2, 3, index), (3, 20, 24))
    assert torch.equal(part.draw(Draws(1, 2, 3, order), (3, 20, 24)), draws[order])
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert not torch.equal(part.draw(Draws(*other, index), (3, 20, 24)), draws)


def loaded(loader, start=0):
    return [batch.inputs for batch in loader.epoch(1, start)]


@each_part
def test_both_loaders_give_the_same_also_from_mid_epoch_on(part):
    targets = torch.zeros(64, dtype=torch.int64)
    options = {"batch_size": 10, "mean": [0.5], "std": [0.5], "device": "cpu", "shuffle": True}
    options |= {"augmentations": (part,), "seed": 4}
    resident = ResidentLoader(IMAGES, targets, **options)
    streamed = StreamedLoader(
        ArraySource(IMAGES.numpy(), "train"), targets, num_workers=0, **options
    )
    whole = loaded(resident)
    assert len(whole) == 7
    for loader, start in ((streamed, 0), (resident, 3), (streamed, 3)):
        for batch, expected in zip(loaded(loader, start), whole[start:], strict=True):
            assert torch.equal(batch, expected)
    streamed.close()


# ---------------------------------------------------------------------- arguments

# What the config refuses before torch is imported, the part refuses too
REFUSED = {
    "shift.shift.distance": (-1, 1.5, 2000),
    "cutout.cutout.size": (-1, 1.01, 2000),
    "erase.erase.probability": (-0.1, 1.1),
    "erase.erase.scale": ([0, 0.5], [0.5, 0.4], [0.5, 1.1], [0.5]),
    "erase.erase.ratio": ([0, 0.5], [2.0, 1.0], [0.5, 1001]),
    "erase.erase.value": (-1, 256, [1, 2], [1, 2, 256]),
    "color.color.brightness": (-0.1, 101, [0.5], [2, 1], [-1, 1]),
    "color.color.hue": (-0.1, 0.6, [-0.6, 0], [0.1, 0]),
    "imagenet.crop.size": (0, 5000, [1, 2, 3], [0, 1], 1.5),
    "imagenet.crop.scale": ([0, 0.5], [0.5, 0.4], [0.5, 1.1], [0.5]),
    "imagenet.crop.ratio": ([0, 0.5], [2.0, 1.0], [0.5, 1001]),
    "rand_augment.rand_augment.num_ops": (0, 17),
    "rand_augment.rand_augment.magnitude": (-1, 31),
    "rand_augment.rand_augment.num_magnitude_bins": (1, 1001),
    "trivial_augment.trivial_augment.num_magnitude_bins": (1, 1001),
}
TAKEN = {
    "shift.shift.distance": (0, 3, 0.0, 1.0),
    "cutout.cutout.size": (0, 16, 0.25),
    "erase.erase.scale": ([0.1, 0.1], [0.5, 1.0]),
    "erase.erase.ratio": ([1, 1], [0.1, 10]),
    "erase.erase.value": (0, 255),
    "color.color.contrast": (0, 2.5, [0, 1.5]),
    "color.color.hue": (0.5, [-0.5, 0]),
    "imagenet.crop.size": (8, [8, 8], "null"),
    "rand_augment.rand_augment.magnitude": (0, 30),
}


def asked(key, value):
    """The part of a config with that value, checked."""
    choice, name, argument = key.split(".")
    overrides = [f"augmentation={choice}", f"augmentation.{name}.{argument}={value}"]
    return check(job_config(compose(overrides)))["augmentation"][name]


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in REFUSED.items() for value in values]
)
def test_config_and_part_refuse_the_same(key, value):
    choice, name, argument = key.split(".")
    with pytest.raises(UserError, match=f"augmentation.{name}.{argument} is"):
        asked(key, value)
    node = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{choice}.yaml"))[name]
    with pytest.raises(ValueError, match=r"is .*it must"):
        made(node | {argument: value})


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in TAKEN.items() for value in values]
)
def test_config_and_part_take_the_same(key, value):
    made(asked(key, value))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["augmentation=imagenet", "augmentation.crop.size=9"],
            r"augmentation.crop.size is 9; .* which is \[8, 8\]",
        ),
        (
            ["augmentation=erase", "augmentation.erase.value=[1,2,3]"],
            r"augmentation.erase.value is \[1, 2, 3\]; .* 1 channels",
        ),
        *(
            (
                [f"augmentation={choice}", "dataset=synthetic", "dataset.image_shape=[4,8,8]"],
                rf"dataset.image_shape is \[4, 8, 8\]; augmentation.{choice} is for .* 1 or 3",
            )
            for choice in ("color", "rand_augment", "trivial_augment")
        ),
    ],
)
def test_what_does_not_go_with_the_images_is_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        check(job_config(compose(overrides)))


def test_what_goes_with_the_images_is_taken():
    color = ["dataset=synthetic", "dataset.image_shape=[3,8,8]", "augmentation=erase"]
    check(job_config(compose([*color, "augmentation.erase.value=[1,2,3]"])))
