"""Mixed batches: each sample with the one before it, the same from both loaders on all ranks."""

import numpy as np
import pytest
import torch

import dltrain.data.resident as resident
from dltrain.data.augment import Crop, Flip
from dltrain.data.batch import Batch
from dltrain.data.mix import CutMix, MixUp
from dltrain.data.randomness import Draws
from dltrain.data.resident import ResidentLoader
from dltrain.data.source import ArraySource
from dltrain.data.streamed import StreamedLoader

N = 53
INPUTS = np.random.RandomState(0).randint(0, 256, (N, 3, 6, 5)).astype(np.uint8)
TARGETS = torch.arange(N) * 7 % 10
MIXES = (MixUp(alpha=1.0, num_classes=10), CutMix(alpha=1.0, num_classes=10))
PARTS = {
    "mixup": MIXES[:1],
    "cutmix": MIXES[1:],
    "both": MIXES,
    "after crop and flip": (Crop(padding=2), MIXES[0], Flip(probability=0.5), MIXES[1]),
}
each_parts = pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)


@pytest.fixture
def make():
    """A function that makes a loader of either kind, which is closed afterwards."""
    made = []

    def loader(parts=MIXES, num_workers=None, **options):
        options = {
            "batch_size": 8, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7), "device": "cpu",
            "shuffle": True, "seed": 3, "augmentations": parts,
        } | options  # fmt: skip
        if num_workers is None:
            return ResidentLoader(INPUTS, TARGETS, **options)
        source = ArraySource(INPUTS, "train")
        made.append(StreamedLoader(source, TARGETS, num_workers=num_workers, **options))
        return made[-1]

    yield loader
    for each in made:
        each.close()


@pytest.fixture(params=[1, 3, 10**6], ids=["1 batch a chunk", "3 a chunk", "all in one"])
def chunks(request, monkeypatch):
    monkeypatch.setattr(resident, "_CPU_CHUNK_BYTES", request.param * 8 * 90 * 4)


def assert_equal(batches, expected):
    batches, expected = list(batches), list(expected)
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        for column, wanted in zip(batch, other, strict=True):
            assert column.dtype == wanted.dtype
            assert torch.equal(column, wanted)


def before(column):
    """Each sample's partner in a batch."""
    return torch.cat([column[-1:], column[:-1]])


@pytest.mark.parametrize("moved", [(), (Crop(padding=2), Flip(probability=0.5))])
def test_a_sample_is_mixed_with_the_one_before_it_in_its_batch(moved, chunks, make):
    part = MIXES[0]
    plain, mixed = (make(parts).epoch(1) for parts in (moved, (*moved, part)))
    for batch, other in zip(plain, mixed, strict=True):
        shares = part.draw(Draws(3, 1, len(moved), batch.index), (3, 6, 5)).float()
        own, others = shares[:, None, None, None], (1 - shares)[:, None, None, None]
        assert torch.equal(other.inputs, before(batch.inputs) * others + batch.inputs * own)
        labels = torch.nn.functional.one_hot(batch.targets, 10)
        expected = before(labels) * (1 - shares)[:, None] + labels * shares[:, None]
        assert torch.equal(other.targets, expected)
        assert torch.equal(other.index, batch.index)


@each_parts
def test_chunks_and_the_start_do_not_show(parts, chunks, make):
    loader, whole = make(parts), list(make(parts, num_workers=0).epoch(2))
    for start in range(len(loader) + 1):
        assert_equal(loader.epoch(2, start), whole[start:])


@each_parts
@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_do_not_show(parts, num_workers, make):
    loader, expected = make(parts, num_workers), make(parts)
    for epoch, start in ((0, 0), (1, 3), (0, 0)):
        assert_equal(loader.epoch(epoch, start), expected.epoch(epoch, start))


@each_parts
@pytest.mark.parametrize("world_size", [2, 8])
@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("num_workers", [None, 0], ids=["resident", "streamed"])
def test_ranks_together_are_a_world_of_one(
    parts, world_size, drop_last, num_workers, make, monkeypatch
):  # with 8 ranks and a last batch of 5, three shares are empty
    monkeypatch.setattr(resident, "_CPU_CHUNK_BYTES", 3 * 8 * 90 * 4)
    alone = make(parts, drop_last=drop_last)
    ranks = [
        make(parts, num_workers, drop_last=drop_last, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert {len(rank) for rank in ranks} == {len(alone)}
    for start in (0, 4):
        shares = zip(*(rank.epoch(1, start) for rank in ranks), strict=True)
        union = [Batch(*map(torch.cat, zip(*batches, strict=True))) for batches in shares]
        assert_equal(union, alone.epoch(1, start))


@pytest.mark.parametrize("num_workers", [None, 0], ids=["resident", "streamed"])
def test_a_batch_of_one_is_its_own_partner(num_workers, make):
    plain, mixed = (list(make(parts, num_workers, batch_size=52).epoch(0)) for parts in ((), MIXES))
    torch.testing.assert_close(mixed[-1].inputs, plain[-1].inputs)
    assert mixed[-1].targets.argmax(1).tolist() == plain[-1].targets.tolist()
    assert mixed[-1].targets.sum() == 1


def test_a_part_that_mixes_changes_nothing_before_it(make):
    """Its place among the others is not seen in their draws, nor in its own."""
    parts = PARTS["after crop and flip"]
    sorted_parts = [parts[place] for place in (0, 2, 1, 3)]
    assert_equal(make(parts).epoch(0), make(sorted_parts).epoch(0))
    never = MixUp(alpha=1.0, num_classes=10, probability=0.0)
    plain = [batch.inputs for batch in make(sorted_parts[:2]).epoch(0)]
    mixed = [batch.inputs for batch in make([never, *sorted_parts[:2]]).epoch(0)]
    assert all(map(torch.equal, plain, mixed))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("storage", ["device", "host"])
@each_parts
def test_a_gpu_gets_the_same_batches(storage, parts, make):
    ours = list(make(parts, device="cuda", storage=storage).epoch(1))
    assert ours[0].inputs.is_cuda
    assert_equal([Batch(*(c.cpu() for c in batch)) for batch in ours], make(parts).epoch(1))
