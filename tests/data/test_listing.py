"""Names in one block, and splits taken from it."""

from pathlib import Path

import numpy as np
from image_files import FACTS, write_tree

from dltrain.data import listing
from dltrain.data.image_folder import ImageFolder
from dltrain.data.listing import KIND, Listing, Names, describe

WORDS = ["a", "\udcff", "一二", "b c", "x" * 300]


def test_names_are_a_sequence_of_str():
    names = Names.of(word.encode(errors="surrogateescape") for word in WORDS)
    assert list(names) == WORDS
    assert (len(names), names[-1], names[1:3]) == (5, WORDS[-1], WORDS[1:3])
    assert "b c" in names
    assert names.index("b c") == 3


def test_names_are_taken_in_any_order_and_joined(monkeypatch):
    monkeypatch.setattr(listing, "_AT_ONCE", 2)
    names = Names.of(word.encode(errors="surrogateescape") for word in WORDS)
    index = np.array([4, 0, 0, 3, 1])
    assert list(names.take(index)) == [WORDS[place] for place in index]
    assert list(names.take(index[:0])) == list(Names.joined([])) == []
    assert list(Names.joined([names, names.take(index[:0]), names])) == WORDS * 2


def test_what_is_taken_belongs_together(tmp_path):
    folder = ImageFolder(**FACTS | {"root": str(write_tree(tmp_path)), "num_test": 0})
    found = folder.find()["train"]
    index = np.array([7, 2, 2])
    some = found.take(index)
    assert list(some.names) == [found.names[place] for place in index]
    assert some.targets.tolist() == found.targets[index].tolist()
    assert len(some) == len(some.sizes) == 3


def test_nothing_is_said_of_what_needs_no_conversion():
    kinds = np.zeros(3, KIND)
    kinds["orientation"] = 1
    assert describe(kinds) == describe(kinds[:0]) == ""
    empty = Listing(Path(), Names.of([]), np.zeros(0, np.int64), kinds[:0], ())
    assert (len(empty), empty.sizes.shape, empty.sizes.dtype) == (0, (0, 2), np.int32)
