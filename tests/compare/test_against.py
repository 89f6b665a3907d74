"""A metric over a setting: a point a run, means where runs share a place, and scales that fit."""

import random

import pytest

from dltrain.compare.against import plot_against
from dltrain.compare.figure import figure
from dltrain.compare.find import find_runs
from dltrain.compare.scale import number_of, scale_of
from dltrain.compare.table import Options
from dltrain.errors import UserError


def against(folder, x, color="", **options):
    path = folder.parent / "x.svg"
    return plot_against(find_runs([str(folder)]), Options(**options), x, color, path)


@pytest.fixture
def search(make_run, tmp_path):
    """Learning rates in decades and dropout in an interval, none of them twice."""
    draw = random.Random(0)
    for number in range(20):
        lr, dropout = 10 ** draw.uniform(-4, -1), draw.uniform(0, 0.5)
        changes = {"optimizer.lr": lr, "model.dropout": dropout, "trainer.max_epochs": number}
        make_run(f"search/{number}_x=y", accuracy=1 - lr, **changes)
    return tmp_path / "search"


def test_a_run_is_a_point_and_what_differs_as_well_its_colour(search, drawn):
    assert against(search, "lr") == []
    axes, bar = drawn[0].axes
    assert (axes.get_xscale(), axes.get_xlabel(), bar.get_ylabel()) == ("log", "lr", "dropout")
    assert axes.get_ylabel() == "validation accuracy\n(best)"
    places = [(x, y) for line in axes.lines for x, y in line.get_xydata()]
    assert len(places) == 20
    assert all(y == pytest.approx(1 - x) for x, y in places)
    against(search, "dropout", metrics="loss/val", at=None)
    assert drawn[1].axes[0].get_xscale() == "linear"


def test_runs_of_one_place_are_a_mean_with_its_deviation(sweep, drawn):
    assert against(sweep, "lr") == []
    (axes,) = drawn[0].axes
    (bars,) = axes.containers
    means = [0.9 + 0.3 * lr + 0.0123456789 for lr in (0.001, 0.01)]
    assert list(bars.lines[0].get_ydata()) == pytest.approx(means)
    low, high = bars.lines[2][0].get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(0.0123456789)
    assert axes.get_title(loc="right") == "mean ± sample std over seed, n = 3"


def test_a_line_joins_what_differs_in_nothing_else(make_run, tmp_path, drawn):
    for number in range(8):
        changes = {
            "optimizer.lr": 0.1 * 2 ** (number // 2),
            "model.norm": ["none", "batch"][number % 2],
        }
        make_run(f"s/{number}", **changes)
    assert against(tmp_path / "s", "lr") == []
    labels = [each.get_text() for each in drawn[0].legends[0].get_texts()]
    assert labels == ["batch", "none"]
    assert sum(line.get_linestyle() == "-" for line in drawn[0].axes[0].lines) == 2
    make_run("s/9", **{"optimizer.lr": 0.1, "optimizer.eps": 1})
    (note,) = against(tmp_path / "s", "lr")
    assert note == ("the runs differ in model.norm, optimizer.eps as well: --color KEY shows one, "
                    "--where fixes others")  # fmt: skip
    assert not any(line.get_linestyle() == "-" for line in drawn[1].axes[0].lines)


def test_runs_that_lack_something_are_counted(search, make_run):
    (make_run("search/20_x=y", **{"optimizer.lr": 0.5}) / "summary.json").unlink()
    assert against(search, "lr", color="dropout") == [
        "1 of 21 runs lack optimizer.lr or accuracy/val:best"
    ]


def test_lists_of_one_number_are_numbers(make_run, tmp_path, drawn):
    for size in (16, 32, 256):
        make_run(f"s/{size}", **{"model.hidden_sizes": [size]})
    against(tmp_path / "s", "hidden_sizes")
    (axes,) = drawn[0].axes
    drawn[0].canvas.draw()
    assert [t.get_text() for t in axes.get_xticklabels()] == ["16", "32", "256"]
    assert [number_of(value) for value in ("[1,2]", "[nan]", "16", True, None, 3)] == [
        *(None, None, None, None, None, 3.0)
    ]


@pytest.mark.parametrize(("x", "message"), [
    ("model.norm", r"--x model\.norm has text: a, b; it needs numbers that differ, as `seed`"),
    ("optimizer.lr", r"--x optimizer\.lr has one value: 0\.001; it needs numbers"),
    ("trainer.max_steps", r"--x trainer\.max_steps has no value; it needs numbers"),
    ("optimizer.lrr", "did you mean `optimizer.lr`"),
])  # fmt: skip
def test_what_makes_no_axis_is_refused_with_what_would(make_run, tmp_path, x, message):
    for number in (0, 1):
        make_run(f"s/{number}", seed=number, **{"model.norm": "ab"[number]})
    with pytest.raises(UserError, match=message):
        against(tmp_path / "s", x)


@pytest.mark.parametrize(("values", "kind"), [
    ([0.001, 0.01, 0.1], "log"), ([0, 1e-4, 1e-3, 1e-2], "symlog"), ([16, 32, 64, 128], "linear"),
    ([n / 20 for n in range(1, 20)], "linear"), ([-1, 1, 100], "linear"), ([0, 5], "linear"),
    ([0.5], "linear"),
])  # fmt: skip
def test_a_scale_is_in_decades_where_the_values_are(values, kind):
    scale = scale_of(values)
    assert scale.kind == kind
    places = [scale.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert (places[0], places[-1]) == ((0.0, 1.0) if len(values) > 1 else (0.5, 0.5))


def test_the_bar_beside_the_points_has_their_colours():
    """Of values with a 0, which has no logarithm, too."""
    values = [0, 1e-4, 1e-3, 1e-2, 1.0]
    scale = scale_of(values)
    with figure(3, 3) as (made, axes):
        scale.add_bar(made, axes, "lr")
        norm = made.axes[1]._colorbar.norm
        assert [float(norm(value)) for value in values] == pytest.approx(
            [*map(scale.place, values)]
        )


def test_losses_that_diverge_leave_room_for_the_others(make_run, tmp_path, drawn):
    for number in range(4):
        rows = [{"step": 1, "split": "val", "loss": 10.0**number}]
        make_run(f"s/{number}", rows=rows, **{"optimizer.lr": 0.1 * number})
    against(tmp_path / "s", "lr", metrics="loss/val:min")
    assert drawn[0].axes[0].get_yscale() == "log"


def test_the_same_runs_give_the_same_file(search):
    against(search, "lr")
    first = (search.parent / "x.svg").read_bytes()
    against(search, "lr")
    assert (search.parent / "x.svg").read_bytes() == first
