"""Pictures of an evaluation are made of anything that an evaluation can be."""

import io

import numpy
import pytest
from PIL import Image

from dltrain.interpret.plots import brief, draw_confusion, draw_reliability, plain
from dltrain.interpret.report import make_report

STRANGE = ["$\\frac{", "class " * 50, "猫", "\x1b[2J\n", "_^{"]


@pytest.mark.parametrize("count", [1, 7, 70])
def test_a_confusion_matrix_of_any_size_and_names(count):
    confusion = numpy.arange(count**2).reshape(count, count)
    classes = [STRANGE[i % len(STRANGE)] for i in range(count)]
    data = draw_confusion(confusion, classes, "$ a title {")
    image = Image.open(io.BytesIO(data))
    assert max(image.size) <= 2600
    assert len(data) < 2_000_000


def test_the_same_picture_is_the_same_bytes():
    confusion = numpy.eye(2, dtype=int)
    first, second = (draw_confusion(confusion, ["a", "b"], "a title") for _ in range(2))
    assert first == second


def test_a_reliability_diagram_with_empty_bins():
    counts = numpy.zeros(15)
    counts[[3, 14]] = 5, 9
    names = ("bin_count", "bin_confidence", "bin_right")
    sums = dict.fromkeys(names, counts) | dict.fromkeys(("support", "predicted", "right"), counts)
    report = make_report(sums)
    picture = pixels(draw_reliability(report, "$ a title {\nof two lines"))
    wrong = make_report(sums | {"bin_right": counts * (numpy.arange(15) > 3)})
    assert wrong.bin_accuracy[3] == 0
    other = pixels(draw_reliability(wrong, "$ a title {\nof two lines"))
    blue = [0x00, 0x72, 0xB2]
    half = picture.shape[1] // 2  # the bin of samples that are all wrong has a line of its own
    assert (other[:, :half] == blue).all(2).any()
    assert (picture[:, :half] == blue).all(2).sum() > (other[:, :half] == blue).all(2).sum()


def pixels(data):
    return numpy.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_counts_are_brief():
    counts = (0, 7, 9_999, 12_345, 1_234_567, 5 * 10**9)
    assert [brief(count) for count in counts] == ["0", "7", "9999", "12.3k", "1.23M", "5G"]


def test_labels_are_short_and_no_formulas():
    assert plain("$x\\y$") == r"\$x\\y\$"
    assert plain("a cat of the north", 13) == "a cat … north"
    assert len(plain("a" * 1000)) == 18
    assert plain("\x1b[2J") == "?[2J"
