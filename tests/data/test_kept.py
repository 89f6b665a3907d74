"""Memory that is kept: used again, and never while anybody can still see it."""

import pytest
import torch

from dltrain.data.kept import Kept
from dltrain.data.normalise import Normalise

CPU = torch.device("cpu")
LARGE = (4, 1 << 17)


def test_memory_is_used_again_once_nobody_has_it():
    kept = Kept()
    first = kept.empty(*LARGE, CPU)
    place = first.data_ptr()
    del first
    assert kept.empty(2, 1 << 17, CPU).data_ptr() == place


@pytest.mark.parametrize(
    "see",
    [
        lambda result: result,
        lambda result: result.view(-1)[5:7],
        lambda result: result.numpy(),
        lambda result: (result * torch.ones((), requires_grad=True)).grad_fn,
    ],
    ids=["itself", "view", "numpy", "graph"],
)
def test_memory_that_somebody_can_see_is_left_alone(see):
    kept = Kept()
    result = kept.empty(*LARGE, CPU)
    place, seen = result.data_ptr(), see(result)
    del result
    others = [kept.empty(*LARGE, CPU) for _ in range(6)]
    assert place not in {other.data_ptr() for other in others}
    assert len({other.data_ptr() for other in others}) == 6
    del seen


def test_no_more_than_three_are_kept():
    kept = Kept()
    results = [kept.empty(*LARGE, CPU) for _ in range(8)]
    assert len(kept._blocks) == 3
    del results


def test_a_larger_result_gets_larger_memory():
    kept = Kept()
    kept.empty(*LARGE, CPU)
    assert kept.empty(9, 1 << 17, CPU).shape == (9, 1 << 17)


@pytest.mark.parametrize("count", [0, 1, 3, 40])
@pytest.mark.parametrize("last", [True, False])
def test_values_do_not_depend_on_how_many_are_normalised_at_once(count, last):
    shape = (3, 150, 150)
    form = torch.channels_last if last else torch.contiguous_format
    samples = torch.randint(0, 256, (count, *shape), dtype=torch.uint8).contiguous(
        memory_format=form
    )
    normalise = Normalise(
        [0.4, 0.5, 0.6], [0.2, 0.3, 0.4], sample_shape=shape, unit=255.0, device=CPU
    )
    together = normalise(samples)
    for sample, expected in zip(samples, together, strict=True):
        assert torch.equal(normalise(sample[None])[0], expected)


def test_batches_that_are_kept_keep_their_values():
    normalise = Normalise([0.5], [0.5], sample_shape=(3, 300, 300), unit=255.0, device=CPU)
    samples = [torch.full((2, 3, 300, 300), value, dtype=torch.uint8) for value in range(8)]
    results = [normalise(each) for each in samples]
    assert [float(each.mean()) for each in results] == [
        float(normalise(each).mean()) for each in samples
    ]
