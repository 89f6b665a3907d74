"""The resident loader: every sample once, the same from anywhere, on any number of ranks."""

import numpy as np
import pytest
import torch

import dltrain.data.resident as resident
from dltrain.data.augment import Crop, Flip
from dltrain.data.resident import Batch, ResidentLoader

N = 103
INPUTS = np.random.RandomState(0).randint(0, 256, (N, 3, 6, 5)).astype(np.uint8)
TARGETS = np.arange(N, dtype=np.int64) * 7 % 10
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
PARTS = (Crop(padding=2), Flip(probability=0.5))


class Invert:
    """A part that is no movement: draws decide which images become their negative."""

    def draw(self, random, image_shape):
        return random.happens(0, 0.5)

    def __call__(self, inputs, draws):
        return torch.where(draws[:, None, None, None], 255 - inputs, inputs)


class AddSizes:
    """A part whose result depends on how many images it is given at a time."""

    def draw(self, random, image_shape):
        return random.bits(0)

    def __call__(self, inputs, draws):
        return inputs + len(inputs)


def make(inputs=INPUTS, targets=TARGETS, **options) -> ResidentLoader:
    arguments = {"batch_size": 8, "mean": MEAN, "std": STD, "device": "cpu", "shuffle": True}
    return ResidentLoader(inputs, targets, **(arguments | options))


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b)
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def by_sample(batches: list[Batch]) -> torch.Tensor:
    inputs = torch.cat([batch.inputs for batch in batches])
    return inputs[torch.cat([batch.index for batch in batches]).argsort()]


@pytest.fixture(params=[1, 3, 10**6], ids=["1 batch a chunk", "3 a chunk", "all in one"])
def chunks(request, monkeypatch):
    """Chunks of one batch, of three, and of the whole epoch."""
    monkeypatch.setattr(resident, "_CPU_CHUNK_BYTES", request.param * 8 * 90 * 4)


@pytest.mark.parametrize("parts", [(), PARTS, (*PARTS, Invert(), PARTS[1]), (AddSizes(),)])
def test_an_epoch_begun_in_the_middle_is_its_rest(chunks, parts):
    loader = make(augmentations=parts)
    whole = list(loader.epoch(3))
    for start in range(len(loader) + 1):
        assert same(list(loader.epoch(3, start=start)), whole[start:])


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_sample_comes_once_with_its_label(shuffle):
    batches = list(make(shuffle=shuffle).epoch(0))
    index = torch.cat([batch.index for batch in batches])
    assert sorted(index.tolist()) == list(range(N))
    assert (index.tolist() == list(range(N))) is not shuffle
    assert torch.equal(torch.cat([b.targets for b in batches]), torch.from_numpy(TARGETS)[index])
    assert [len(batch.targets) for batch in batches] == [8] * 12 + [7]


def test_normalised_as_torchvision_does():
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    expected = functional.normalize(torch.from_numpy(INPUTS).float() / 255, MEAN, STD)
    for parts in ((), (Crop(padding=0),)):
        inputs = by_sample(list(make(augmentations=parts).epoch(0)))
        torch.testing.assert_close(inputs, expected, rtol=1e-6, atol=1e-6)


def test_layouts_and_chunks_do_not_change_a_bit(monkeypatch):
    plain = by_sample(list(make().epoch(0)))
    assert torch.equal(plain, by_sample(list(make(augmentations=[Crop(padding=0)]).epoch(0))))
    monkeypatch.setattr(resident, "_CPU_CHUNK_BYTES", 1)
    assert torch.equal(plain, by_sample(list(make().epoch(0))))


def test_one_mean_for_all_channels():
    assert same(
        list(make(mean=[0.5], std=[0.25]).epoch(0)),
        list(make(mean=[0.5] * 3, std=[0.25] * 3).epoch(0)),
    )


def test_augmentation_depends_on_seed_epoch_and_sample_only():
    reference = by_sample(list(make(augmentations=PARTS).epoch(2)))
    others = (
        make(augmentations=PARTS, batch_size=32),
        make(augmentations=PARTS, shuffle=False),
        make(augmentations=PARTS, storage="host"),
    )
    assert all(torch.equal(reference, by_sample(list(other.epoch(2)))) for other in others)
    assert not torch.equal(reference, by_sample(list(make(augmentations=PARTS).epoch(3))))
    another_seed = make(augmentations=PARTS, seed=1)
    assert not torch.equal(reference, by_sample(list(another_seed.epoch(2))))


def test_augmented_samples_are_those_of_the_parts_alone():
    flip = Flip(probability=1.0)
    mirrored = torch.from_numpy(INPUTS).flip(3)
    assert torch.equal(
        by_sample(list(make(augmentations=[flip]).epoch(0))),
        by_sample(list(make(mirrored.numpy().copy()).epoch(0))),
    )


@pytest.mark.parametrize("world_size", [2, 3, 8])
@pytest.mark.parametrize("parts", [(), PARTS])
@pytest.mark.parametrize("drop_last", [True, False])
def test_ranks_together_are_a_world_of_one(world_size, parts, drop_last):
    options = {"augmentations": parts, "drop_last": drop_last}
    alone = make(**options)
    ranks = [make(rank=rank, world_size=world_size, **options) for rank in range(world_size)]
    assert {len(rank) for rank in ranks} == {len(alone)}
    assert {rank.num_samples for rank in ranks} == {alone.num_samples}
    for start in (0, 5):
        epochs = [list(rank.epoch(1, start)) for rank in ranks]
        shares = list(zip(*epochs, strict=True))
        union = [Batch(*(torch.cat(c) for c in zip(*batches, strict=True))) for batches in shares]
        assert same(union, list(alone.epoch(1, start)))
        for batches in shares:
            sizes = [len(batch.targets) for batch in batches]
            assert max(sizes) - min(sizes) <= 1


def test_a_share_may_be_empty_but_no_step_is_missing():
    last = [list(make(batch_size=100, rank=r, world_size=5).epoch(0))[-1] for r in range(5)]
    assert [len(batch.targets) for batch in last] == [1, 1, 1, 0, 0]
    assert last[4].inputs.shape == (0, 3, 6, 5)


def test_drop_last():
    loader = make(drop_last=True)
    assert (len(loader), loader.num_samples) == (12, 96)
    assert [len(batch.targets) for batch in loader.epoch(0)] == [8] * 12
    assert (len(make()), make().num_samples) == (13, N)
    assert (len(make(batch_size=103)), len(make(batch_size=103, drop_last=True))) == (1, 1)


def test_vectors_of_float_are_normalised_too():
    inputs = np.random.RandomState(0).standard_normal((20, 2)).astype(np.float32)
    untouched = inputs.copy()
    loader = make(inputs, TARGETS[:20], mean=[1.0, 2.0], std=[2.0, 4.0])
    expected = (inputs - [1, 2]) / np.array([2, 4])
    np.testing.assert_allclose(by_sample(list(loader.epoch(0))), expected, rtol=1e-6, atol=1e-6)
    assert np.array_equal(inputs, untouched)


def test_an_evaluation_batch_may_exceed_the_set():
    (batch,) = make(batch_size=1000, shuffle=False).epoch(0)
    assert batch.index.tolist() == list(range(N))


def test_batches_are_fit_for_training():
    batch = next(make().epoch(0))
    assert batch.inputs.dtype == torch.float32
    assert batch.targets.dtype == batch.index.dtype == torch.int64
    assert not batch.inputs.is_inference()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 104}, r"loader\.batch_size is 104, but the training set has 103 samples"),
        ({"batch_size": 0}, r"loader\.batch_size is 0"),
        ({"batch_size": 2.5}, r"loader\.batch_size is 2\.5"),
        ({"batch_size": 2, "world_size": 3}, r"loader\.batch_size is 2 for 3 processes"),
        ({"mean": [0.1, 0.2]}, "mean has 2 numbers"),
        ({"std": [0.0]}, "std is"),
        ({"inputs": INPUTS.astype(np.float64)}, "inputs are torch.float64"),
        ({"inputs": INPUTS.astype(np.float32), "augmentations": PARTS}, "augmentation=none"),
        ({"targets": TARGETS[:-1]}, "targets are"),
        ({"targets": TARGETS.astype(np.int32)}, "targets are"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("storage", ["device", "host"])
def test_a_gpu_gets_the_same_batches(storage):
    ours = list(make(augmentations=PARTS, device="cuda", storage=storage).epoch(1))
    assert ours[0].inputs.is_cuda
    moved = [Batch(*(tensor.cpu() for tensor in batch)) for batch in ours]
    assert same(moved, list(make(augmentations=PARTS).epoch(1)))
