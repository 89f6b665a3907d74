"""A fingerprint is that of the data: wherever it lies, and no other data has it."""

from pathlib import Path

import numpy
import pytest

from dltrain.data import fingerprint
from dltrain.data.fingerprint import digest
from dltrain.data.listing import Names
from dltrain.data.pictures import Pictures
from dltrain.data.shelf import FileShelf


@pytest.fixture
def arrays():
    rng = numpy.random.default_rng(0)
    return rng.integers(0, 256, (50, 1, 4, 4), numpy.uint8), numpy.arange(50) % 3


def test_any_changed_pixel_or_label_changes_it(arrays):
    inputs, targets = arrays
    first = digest(inputs, targets)
    assert digest(inputs.copy(), targets.copy()) == first
    for part in (inputs, targets):
        part[17] += 1
        assert digest(inputs, targets) != first
        part[17] -= 1
    assert digest(inputs.reshape(50, 1, 2, 8), targets) != first


def test_memory_order_does_not_matter(arrays):
    inputs, targets = arrays
    assert digest(numpy.asfortranarray(inputs), targets) == digest(inputs, targets)


def test_of_large_arrays_rows_at_even_distances_count(arrays, monkeypatch):
    inputs, targets = arrays
    monkeypatch.setattr(fingerprint, "MAX_BYTES", 10 * 16)
    assert len(fingerprint.sampled(inputs)) == 10
    first = digest(inputs, targets)
    for place in (0, 49):
        inputs[place] += 1
        assert digest(inputs, targets) != first, place
        inputs[place] -= 1
    targets[1] += 1  # labels count, all of them
    assert digest(inputs, targets) != first


def pictures(root, names, size=8):
    sizes = numpy.full((len(names), 2), size, numpy.int32)
    return Pictures(FileShelf(Path(root), names), sizes, size=4, crop_fraction=1.0, exact=True)


def names_of(*names):
    return Names.of([name.encode() for name in names])


def test_pictures_are_known_by_order_names_and_sizes_wherever_they_lie():
    targets = numpy.zeros(2, numpy.int64)
    first = digest(pictures("/here", names_of("a/1.png", "b/2.png")), targets)
    assert digest(pictures("/there", names_of("a/1.png", "b/2.png")), targets) == first
    others = [
        pictures("/here", names_of("b/2.png", "a/1.png")),
        pictures("/here", names_of("a/1.pn", "gb/2.png")),
        pictures("/here", names_of("a/1.png", "b/2.png"), size=9),
    ]
    assert first not in [digest(other, targets) for other in others]
    assert digest(pictures("/here", names_of("a/1.png", "b/2.png")), targets + 1) != first


def test_the_first_pictures_have_a_fingerprint_of_their_own():
    three = pictures("/here", names_of("a/1.png", "b/2.png", "c/3.png"))
    two = pictures("/here", names_of("a/1.png", "b/2.png"))
    targets = numpy.zeros(2, numpy.int64)
    assert digest(three[:2], targets) == digest(two, targets)
    listed = pictures("/here", ["a/1.png", "b/2.png"])
    assert digest(listed, targets) != digest(pictures("/here", ["a/1.png", "b/3.png"]), targets)
