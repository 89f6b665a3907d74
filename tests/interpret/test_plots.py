"""Pictures of an evaluation are made of anything that an evaluation can be."""

import io

import numpy
import pytest
from PIL import Image

from dltrain.interpret.plots import draw_confusion, draw_reliability, plain
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
    data = draw_reliability(make_report(sums), "a title")
    assert data.startswith(b"\x89PNG")


def test_labels_are_short_and_no_formulas():
    assert plain("$x\\y$") == r"\$x\\y\$"
    assert len(plain("a" * 1000)) == 18
    assert plain("\x1b[2J") == "?[2J"
