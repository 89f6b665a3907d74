"""The table on a screen of any width, and in files: nothing is lost, and nothing is steered."""

import csv
import io
import json
import re

import pytest

from dltrain.compare.columns import duration
from dltrain.compare.find import find_runs
from dltrain.compare.table import Options, make_table
from dltrain.compare.text import columns_of, cut, to_csv, to_json, to_markdown, to_screen

WIDTHS = [1, 2, 7, 20, 40, 60, 80, 120, 200]


def table(folder, **options):
    return make_table(find_runs([str(folder)]), Options(**options))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("group", ["", "seed"])
def test_no_line_is_wider_than_the_screen(sweep, width, group):
    lines = to_screen(table(sweep, group=group), width).splitlines()
    assert max(map(columns_of, lines)) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_every_value_is_shown_at_any_width(sweep, width):
    """But those that are named as not shown."""
    text = to_screen(table(sweep), width)
    squeezed = "".join(text.split())
    assert squeezed.count("92.77%") == 1, "the accuracy of 5_lr=0.01_seed=2"
    for name in ("time", "images/s", "status"):
        assert name in squeezed


def test_a_table_of_a_sweep_fits_eighty_columns_with_the_names_whole(sweep):
    text = to_screen(table(sweep), 80)
    assert "0_lr=0.001_seed=0" in text
    assert "images/s" in text.splitlines()[1]


def test_jobs_are_called_by_their_numbers_before_anything_is_left_out(sweep, make_run):
    lines = to_screen(table(sweep), 76).splitlines()
    assert [line.split()[0] for line in lines[3:]] == list("012345")
    assert "images/s" in lines[1]
    assert "not shown: images/s (" in to_screen(table(sweep), 60)
    text = to_screen(table(sweep, columns="run,best,test,time,images/s,step"), 58)
    assert "lr=" in text, "what a job varies stands in no other column"
    make_run("sweep/3_lr=0.5", **{"optimizer.lr": 0.5})
    text = to_screen(table(sweep), 76)
    assert text.count("3_lr=") == 2, "a number that two runs have names neither"


def test_many_settings_are_columns_at_eighty(make_run, tmp_path):
    for number in range(4):
        changes = {"model.hidden_sizes": [2**number], "optimizer.lr": 0.1**number}
        changes |= {"optimizer.weight_decay": 0.1**number, "model.label_smoothing": number / 10}
        make_run(f"s/{number}_lr=0.1,hidden_sizes=3,weight_decay=0.1", seed=number, **changes)
    lines = to_screen(table(tmp_path / "s"), 80).splitlines()
    assert [line.split()[:2] for line in lines[3:7]] == [
        ["0", "[1]"], ["1", "[2]"], ["2", "[4]"], ["3", "[8]"],
    ]  # fmt: skip
    assert "hidden_" in lines[0]
    assert " sizes" in lines[1]


def test_status_goes_only_where_it_says_nothing(sweep, make_run):
    assert "not shown: images/s, time, status" in to_screen(table(sweep), 45)
    make_run("sweep/6_x", status="failed", seed=9)
    text = to_screen(table(sweep), 55)
    assert text.count("completed") == 6
    assert text.count("failed") == 1


def test_columns_that_were_asked_for_never_go(sweep):
    for width in (40, 80):
        text = to_screen(table(sweep, columns="run,lr,best,status,time,images/s"), width)
        assert "not shown" not in text
        assert text.count("12,346") == 6


def test_means_have_their_spread_beside_them(sweep):
    text = to_screen(table(sweep, group="seed"), 80)
    assert "91.26% ± 1.23" in text
    assert "0.08735 ± 0.012" in to_screen(table(sweep, group="seed", metrics="loss/val"), 80)


@pytest.fixture
def nasty(make_run, tmp_path):
    """Runs whose settings are made to steer a terminal, a page or a spreadsheet."""
    texts = ["\x1b[2J", "a|b\nc", "<img src=x onerror=1>", "=cmd|' /C calc'!A0", "汉字" * 20, "‮x"]
    for number, text in enumerate(texts):
        make_run(f"nasty/{number}", **{"model.note": text})
    return tmp_path / "nasty"


def test_nothing_steers_the_terminal(nasty):
    for width in WIDTHS:
        text = to_screen(table(nasty), width)
        assert all(c.isprintable() or c == "\n" for c in text)
        if width > 1:  # a character of two columns has no place in one
            assert max(map(columns_of, text.splitlines())) <= width


def test_markdown_is_one_line_a_row_and_no_markup(nasty):
    lines = to_markdown(table(nasty)).splitlines()
    assert len(lines) == 2 + 6
    cells = [line.replace("\\|", "").count("|") for line in lines]
    assert len(set(cells)) == 1
    assert not any(re.search(r"(?<!\\)[<\[]", line) for line in lines)


def test_csv_has_all_digits_and_no_formula(nasty, sweep):
    rows = list(csv.DictReader(io.StringIO(to_csv(table(nasty)))))
    assert [row["model.note"][:2] for row in rows][3] == "'="
    assert "\x1b" not in to_csv(table(nasty))
    (row,) = csv.DictReader(io.StringIO(to_csv(table(sweep, where="seed==2 and lr==0.01"))))
    assert float(row["accuracy/val:best"]) == 0.9 + 0.3 * 0.01 + 0.0123456789 * 2


def test_json_is_a_list_of_flat_records(sweep):
    rows = json.loads(to_json(table(sweep, group="seed")))
    assert len(rows) == 2
    assert not any(isinstance(value, dict | list) for row in rows for value in row.values())


def test_a_character_takes_the_columns_that_a_terminal_gives_it():
    texts = {"lr": 2, "±…": 2, "汉字a": 5, "e\N{COMBINING ACUTE ACCENT}": 1}
    assert {text: columns_of(text) for text in texts} == texts


def test_a_long_name_is_cut_in_its_middle():
    assert cut("12_lr=0.001_seed=3", 10) == "12_…seed=3"
    for width in range(1, 20):
        assert len(cut("12_lr=0.001_seed=3", width)) == min(width, 18)


def test_times_are_written_as_people_read_them():
    assert [duration(sec) for sec in (0.44, 59.94, 60, 75.2, 3600, 90061)] == [
        *("0.4s", "59.9s", "1:00", "1:15", "1:00:00", "25:01:01")
    ]
