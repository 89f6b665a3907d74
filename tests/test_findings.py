"""What the final evaluation shows is right, and changes no metric."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from torch import nn

from dltrain.data.batch import Batch
from dltrain.engine.evaluate import evaluate
from dltrain.findings import Examined, class_names, draw_curves
from dltrain.interpret.mistakes import WorstMistakes
from dltrain.interpret.pictures import confusion_sheet, draw_mistakes
from dltrain.interpret.pr_curves import MAX_CLASSES, ProbabilityCounts, average_precision, curve
from dltrain.tasks.classification import Classification

SIZES = (64, 1, 7, 128)  # batches


def samples(num_classes=5, num_samples=200):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(num_classes, (num_samples,), generator=generator)
    inputs = torch.randn(num_samples, 1, 6, 6, generator=generator)
    return Batch(inputs, targets, torch.arange(num_samples))


def cut(batch, *extra):
    parts = [column.split(SIZES) for column in (*batch, *extra)]
    return [(Batch(*columns[:3]), *columns[3:]) for columns in zip(*parts, strict=True)]


def logits_of(batch, num_classes=5):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(batch.targets), num_classes, generator=generator) * 3


def test_the_worst_mistakes_are_those_of_all_samples_sorted():
    batch = samples()
    logits = logits_of(batch)
    worst = WorstMistakes(limit=10)
    for part, part_logits in cut(batch, logits):
        worst.add(part_logits, part)
    found = worst.read()
    p = logits.softmax(1)
    own, (top, said) = p.gather(1, batch.targets[:, None])[:, 0], p.max(1)
    order = [i for i in (own / top).argsort().tolist() if said[i] != batch.targets[i]][:10]
    assert found.index == order
    assert found.labels == batch.targets[order].tolist()
    assert found.predictions == said[order].tolist()
    assert found.label_probabilities == pytest.approx(own[order].tolist(), rel=1e-4)
    assert found.probabilities == pytest.approx(top[order].tolist(), rel=1e-4)
    assert torch.equal(found.inputs, batch.inputs[order])


def test_where_everything_is_right_or_not_a_number_there_is_no_mistake():
    batch = samples()
    worst = WorstMistakes()
    worst.add(nn.functional.one_hot(batch.targets, 5) * 9.0, batch)
    worst.add(torch.full((200, 5), torch.nan), batch)
    assert worst.read() is None


def test_pr_curves_are_those_of_all_probabilities():
    batch = samples()
    logits = logits_of(batch)
    counts = ProbabilityCounts()
    for part, part_logits in cut(batch, logits):
        counts.add(part_logits, part.targets)
    wrong, right = counts.read()
    p = logits.softmax(1).numpy()
    for label in range(5):
        rows = curve(wrong[label], right[label])
        is_label = batch.targets.numpy() == label
        for number in (0, 20, 100, 180):
            said = p[:, label] >= number / 200
            expected = [(said & is_label).sum(), (said & ~is_label).sum()]
            expected += [(~said & ~is_label).sum(), (~said & is_label).sum()]
            assert rows[:4, number].tolist() == expected
        ranked = is_label[np.argsort(-p[:, label])]  # precision at each sample of the class
        area = (ranked.cumsum() / np.arange(1, 201))[ranked].mean()
        assert average_precision(rows) == pytest.approx(area, abs=0.02)


def test_classes_of_one_name_have_curves_of_their_own():
    batch, counts = samples(), ProbabilityCounts()
    counts.add(logits_of(batch), batch.targets)
    names = ["cat", "cat", "all classes", "dog", "cat"]
    curves = draw_curves(counts.read(), "test", names)
    assert [tag.removeprefix("pr_curves_test/") for tag in curves] == [
        "all classes", "cat", "cat (1)", "all classes (2)", "dog", "cat (4)",
    ]  # fmt: skip


def test_memory_of_pr_curves_does_not_grow_with_very_many_classes():
    counts = ProbabilityCounts()
    counts.add(torch.randn(3, MAX_CLASSES + 1), torch.tensor([0, 5, MAX_CLASSES]))
    wrong, right = counts.read()
    assert wrong.shape == right.shape == (1, 201)
    assert (wrong.sum(), right.sum()) == (3 * MAX_CLASSES, 3)


def test_metrics_are_the_same_bit_for_bit_when_somebody_looks():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8))
    loader = SimpleNamespace(epoch=lambda _: [part for (part,) in cut(samples(8))], num_samples=200)
    task = Classification(num_classes=8)
    examined = Examined(task)
    plain = evaluate(model, task, loader, autocast=torch.no_grad)
    assert evaluate(model, examined, loader, autocast=torch.no_grad) == plain
    found = examined.read("test", SimpleNamespace(mean=[0.0], std=[1.0], classes=list("abcdefgh")))
    assert list(found.pictures) == ["mistakes/test", "confusion/test"]
    assert "pr_curves_test/all classes" in found.pr_curves
    assert "pr_curves_test/h" in found.pr_curves
    confusion = examined.tally.read()["confusion"].numpy()
    said = model(samples(8).inputs).argmax(1)
    pairs = list(zip(samples(8).targets.tolist(), said.tolist(), strict=True))
    assert confusion.tolist() == [[pairs.count((i, j)) for j in range(8)] for i in range(8)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (40, 300), (1, 1)])
def test_mistakes_of_any_size_are_drawn(channels, size):
    images = np.full((3, *size, channels), 200, np.uint8)
    captions = [("true 1%: \u2603\n$x", "said 99%: " + "a" * 500)] * 3
    picture = draw_mistakes(images, captions)
    assert picture.shape[2] == 3
    assert max(picture.shape) < 600
    assert (picture == 200).all(2).any()


@pytest.mark.parametrize("num_classes", [1, 2, 10, 30, 31, 1500])
def test_a_confusion_matrix_of_any_number_of_classes_is_drawn(num_classes):
    confusion = np.zeros((num_classes, num_classes), np.int64)
    confusion[-1, 0] = 1_234_567
    picture = confusion_sheet(confusion, ["name \u00e4 " * 9] * num_classes)
    assert picture.dtype == np.uint8
    assert 40 <= max(picture.shape) <= 1500
    assert (picture == [0x08, 0x45, 0x94]).all(2).any()


@pytest.mark.parametrize(
    ("classes", "least"), [(list("0123456789"), 8), (["airplane", "cat", "automobile"] * 5, 5)]
)
def test_a_confusion_matrix_stays_legible_where_tensorboard_makes_it_smaller(classes, least):
    """Its cards are about 345 pixels wide, and it leaves pixels out of a digit's height."""
    picture = confusion_sheet(np.diag(np.full(len(classes), 35)), classes)
    kept = np.linspace(0, len(picture) - 1, 345).round().astype(int)
    shown = picture[kept][:, kept]
    is_blue = (shown == [0x08, 0x45, 0x94]).all(2)
    top = np.flatnonzero(is_blue.any(1))[0]
    left, right = np.flatnonzero(is_blue[top])[[0, -1]]
    cell = shown[top + 1 : top + right - left - 1, left + 1 : right]
    rows = np.flatnonzero((cell > 200).all(2).any(1))
    assert rows[-1] - rows[0] + 1 >= least
    assert (np.diff(rows) == 1).all(), "no stroke is lost"


def test_classes_without_names_have_numbers():
    assert class_names(SimpleNamespace(classes=["cat"]), 3) == ["cat", "1", "2"]
    assert class_names(SimpleNamespace(), 2) == ["0", "1"]


def test_a_run_shows_its_findings_in_tensorboard(finished_run):
    accumulator = EventAccumulator(str(finished_run), size_guidance={"tensors": 0}).Reload()
    tags = accumulator.Tags()["tensors"]
    assert {"images/train", "mistakes/test", "confusion/test"} <= set(tags)
    (event,) = accumulator.Tensors("pr_curves_test/all classes")
    assert [dim.size for dim in event.tensor_proto.tensor_shape.dim] == [6, 201]
    metadata = accumulator.SummaryMetadata("pr_curves_test/3").plugin_data
    assert metadata.plugin_name == "pr_curves"


def test_without_test_samples_the_validation_set_is_shown(dltrain, tmp_path):
    short = ("trainer.max_epochs=1", "trainer.threads=1", "model.hidden_sizes=[4]")
    done = dltrain("train", "dataset=circles", "dataset.num_test=0", *short)
    assert done.code == 0, done.err
    (path,) = tmp_path.rglob("events*")
    accumulator = EventAccumulator(str(path.parent), size_guidance={"tensors": 0}).Reload()
    tags = accumulator.Tags()["tensors"]
    assert "confusion/val" in tags
    assert not any("test" in tag for tag in tags)
