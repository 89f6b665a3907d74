"""Training metrics are exact sums, and a snapshot does not change them."""

import math

import pytest
import torch

from dltrain.engine.sums import TrainSums
from dltrain.tasks.classification import Classification

SIZES = [7, 3, 8, 1, 5, 5, 2, 8]


def samples(num):
    generator = torch.Generator().manual_seed(num)
    return torch.randn(num, 6, generator=generator), torch.randint(
        0, 6, (num,), generator=generator
    )


def add(sums, size):
    logits, labels = samples(size)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    sums.add(loss, size, (logits.argmax(1), labels))


def whole():
    pairs = [samples(size) for size in SIZES]
    logits, labels = (torch.cat(column) for column in zip(*pairs, strict=True))
    loss = torch.nn.functional.cross_entropy(logits.double(), labels).item()
    return {"loss": loss, "accuracy": (logits.argmax(1) == labels).double().mean().item()}


@pytest.mark.parametrize("limit", [1, 3, 64])
def test_uneven_batches_give_the_metric_of_the_whole(limit):
    sums = TrainSums(Classification(num_classes=6), limit=limit)
    for size in SIZES:
        add(sums, size)
    assert sums.read() == pytest.approx(whole(), rel=1e-6)
    assert sums.read() == {}


@pytest.mark.parametrize("cut", range(len(SIZES)))
def test_a_snapshot_in_mid_interval_changes_no_bit(cut):
    task = Classification(num_classes=6)
    straight, first, second = (TrainSums(task, limit=3) for _ in range(3))
    for number, size in enumerate(SIZES):
        add(straight, size)
        if number < cut:
            add(first, size)
    second.load_state_dict(first.state_dict(), torch.device("cpu"))
    for size in SIZES[cut:]:
        add(second, size)
    assert second.read() == straight.read()


def test_a_loss_that_is_not_finite_is_left_out_with_its_samples():
    sums = TrainSums(Classification(num_classes=6), limit=3)
    for size in SIZES:
        add(sums, size)
        sums.add(torch.tensor(float("nan")), 4, (torch.zeros(4), torch.ones(4)))
    means = sums.read()
    assert means["loss"] == pytest.approx(whole()["loss"], rel=1e-6)
    sums.add(torch.tensor(float("inf")), 4, (torch.zeros(4), torch.ones(4)))
    assert math.isnan(sums.read()["loss"])
