"""Counts of an evaluation: those of the definitions, whatever the batches."""

import numpy
import pytest
import torch
from sklearn import metrics

from dltrain.interpret import tally as tally_module
from dltrain.interpret.report import make_report
from dltrain.interpret.tally import NUM_BINS, Tally


def drawn(num_samples=500, num_classes=7, seed=0):
    """Logits that are right more often than not, and targets of unequal classes."""
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(num_samples, generator=generator) ** 2 * num_classes).long()
    logits = 2 * torch.randn(num_samples, num_classes, generator=generator)
    logits[torch.arange(num_samples), targets] += 2
    return logits, targets


def report_of(logits, targets, batch_size=500):
    tally = Tally()
    for part in range(0, len(targets), batch_size):
        tally.add(logits[part : part + batch_size], targets[part : part + batch_size])
    return make_report(tally.read())


def test_every_number_is_scikit_learn_s():
    logits, targets = drawn()
    report, predictions = report_of(logits, targets), logits.argmax(1)
    found = metrics.precision_recall_fscore_support(targets, predictions, zero_division=0)
    for ours, theirs in zip(("precision", "recall", "f1", "support"), found, strict=True):
        assert getattr(report, ours) == pytest.approx(theirs, abs=1e-12), ours
    assert (report.confusion == metrics.confusion_matrix(targets, predictions)).all()
    macro = metrics.precision_recall_fscore_support(targets, predictions, average="macro")
    ours = report.metrics
    assert [ours[f"{name}_macro"] for name in ("precision", "recall", "f1")] == pytest.approx(
        macro[:3], abs=1e-12
    )


def test_the_calibration_error_is_that_of_its_definition():
    logits, targets = drawn()
    confidence, predictions = logits.double().softmax(1).max(1)
    right, expected = (predictions == targets).double(), 0.0
    for number in range(NUM_BINS):
        low, high = number / NUM_BINS, (number + 1) / NUM_BINS
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = (right[inside].mean() - confidence[inside].mean()).abs()
            expected += float(gap * inside.double().mean())
    report = report_of(logits, targets)
    assert report.calibration_error == pytest.approx(expected, abs=1e-12)
    assert report.bin_count.sum() == len(targets)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batches_change_no_count(batch_size):
    whole, parts = report_of(*drawn()), report_of(*drawn(), batch_size)
    assert (whole.confusion == parts.confusion).all()
    assert (whole.bin_count == parts.bin_count).all()
    assert parts.calibration_error == pytest.approx(whole.calibration_error, abs=1e-12)


def test_certainty_lies_in_the_last_bin_and_ties_in_one():
    report = report_of(torch.tensor([[1000.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
    assert report.bin_count[-1] == 1
    assert report.bin_count.sum() == 2


def test_a_bin_holds_its_upper_edge():
    report = report_of(torch.zeros(1, 5), torch.tensor([0]))  # a confidence of 3/15
    assert report.bin_count.tolist().index(1) == 2


def test_a_class_without_samples_or_predictions_has_no_rate():
    logits = torch.tensor([[3.0, 0, 0], [3.0, 0, 0]])
    report = report_of(logits, torch.tensor([0, 1]))
    assert numpy.isnan(report.precision).tolist() == [False, True, True]
    assert numpy.isnan(report.recall).tolist() == [False, False, True]
    assert report.metrics["precision_macro"] == 0.25  # never predicted is 0, never there is no part
    assert report.metrics["recall_macro"] == 0.5


def test_of_many_classes_the_pairs_are_not_counted(monkeypatch):
    monkeypatch.setattr(tally_module, "MAX_CLASSES", 6)
    report = report_of(*drawn())
    assert report.confusion is None
    assert (report.support == report_of(*drawn()).support).all()


def test_the_worst_confusions_come_first():
    truths = torch.tensor([0] * 11 + [1] * 15 + [2] * 9)
    taken = torch.tensor([0] * 9 + [1] * 2 + [0] * 5 + [1] * 9 + [2] + [2] * 9)
    report = report_of(torch.nn.functional.one_hot(taken, 3).float(), truths)
    assert report.most_confused(2) == [(1, 0, 5), (0, 1, 2)]
    assert len(report.most_confused(10)) == 3


def test_what_is_not_a_number_is_no_perfect_calibration():
    logits, targets = drawn(20)
    logits[3] = torch.nan
    report = report_of(logits, targets, batch_size=7)
    assert report.bin_count.sum() == 20
    assert numpy.isnan(report.calibration_error)
    assert numpy.isnan(report.bin_confidence[0])
    assert not numpy.isnan(report.bin_confidence[-1])


def test_a_prediction_is_that_of_the_accuracy_where_probabilities_tie():
    logits, targets = torch.tensor([[0.0, 1e-20], [1.0, 0.0]]), torch.tensor([1, 0])
    assert (logits.argmax(1) == targets).all()
    assert report_of(logits, targets).recall.tolist() == [1.0, 1.0]
