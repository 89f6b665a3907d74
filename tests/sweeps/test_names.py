"""The directories of jobs: short, readable, in order, and good for every file system."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dltrain.sweeps.names import MAX_BYTES, job_directory


@pytest.mark.parametrize(
    ("number", "swept", "num_jobs", "expected"),
    [
        (3, {"optimizer.lr": "0.1", "seed": "2"}, 12, "03_lr=0.1,seed=2"),
        (3, {}, 4, "3"),
        (0, {"optimizer.lr": "1", "other.lr": "2"}, 9, "0_optimizer.lr=1,other.lr=2"),
        (0, {"model.hidden_sizes": "[64,64]"}, 9, "0_hidden_sizes=64-64"),
        (0, {"x": "-0.5"}, 9, "0_x=-0.5"),
        (0, {"x": "'a b/c:d'"}, 9, "0_x=a-b-c-d"),
        (0, {"x": "größe"}, 9, "0_x=größe"),
        (0, {"x": "'../..'"}, 9, "0_x=-"),
        (12, {"x": "null"}, 5, "12_x=null"),
    ],
)
def test_names(number, swept, num_jobs, expected):
    assert job_directory(number, swept, num_jobs) == expected


@given(
    st.dictionaries(st.text(min_size=1, max_size=60), st.text(max_size=300), max_size=100),
    st.integers(0, 10**6),
)
@settings(max_examples=200, deadline=None)
def test_any_name_can_be_made_anywhere(swept, number):
    name = job_directory(number, swept, 10**6 + 1)
    assert len(os.fsencode(name)) <= MAX_BYTES
    assert "/" not in name
    assert name.isprintable()
    assert not set('<>:"\\|?* \0') & set(name)
    assert not name.endswith(".")
    assert name.startswith(f"{number:07}")


def test_a_hundred_keys_leave_room_for_a_few_and_say_how_many_are_left_out(tmp_path):
    swept = {f"part{n}.width{n}": "日本語" * 30 for n in range(100)}
    name = job_directory(7, swept, 100)
    (tmp_path / name).mkdir()
    assert name.startswith("07_width0=")
    assert name.endswith(",+99")


def test_names_are_in_order_as_numbers_are():
    names = [job_directory(number, {"seed": str(number)}, 101) for number in range(101)]
    assert names == sorted(names)
