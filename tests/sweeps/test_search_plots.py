"""What pictures of a search say: names, scales, and of which objective they are."""

import pytest

from dltrain.sweeps.objectives import Objective
from dltrain.sweeps.search_plots import name_of, set_scale

pytest.importorskip("matplotlib")


@pytest.mark.parametrize(
    ("name", "values", "label", "scale", "tick"),
    [
        ("accuracy/val", [0.02, 0.99], "validation accuracy", "linear", "50%"),
        ("loss/val", [0.02, 5.0], "validation loss", "log", "0.5"),
        ("loss/train", [0.5, 0.9], "training loss", "linear", "0.5"),
        ("num_parameters", [1e3, 1e6], "parameters", "log", "0.5"),
        ("wall_time_sec", [3.0, 9.0], "time (s)", "linear", "0.5"),
    ],
)
def test_an_axis_is_named_and_scaled_as_in_the_plots_of_compare(name, values, label, scale, tick):
    from matplotlib.figure import Figure

    objective = Objective(name, "max")
    axes = Figure().add_subplot()
    set_scale(axes, "y", objective, values)
    assert name_of(objective) == label
    assert axes.get_yscale() == scale
    assert axes.yaxis.get_major_formatter()(0.5, 0) == tick
    assert axes.get_xscale() == "linear"


def test_of_several_objectives_it_is_said_which_one_is_shown(tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    from search_files import ACCURACY, search, space

    from dltrain.sweeps import search_plots

    drawn = {}
    monkeypatch.setattr(search_plots, "save", lambda made, file: drawn.update({file.name: made}))
    both = [*ACCURACY, Objective("num_parameters", "min")]
    found = search(tmp_path, space("seed=range(0,9)", "model=a,b"), both, trials=8)
    for number in range(8):
        found.ask(1)
        found.tell(number, [0.5 + number / 20, 100 if number < 7 else 50])
    assert sorted(search_plots.draw_search(tmp_path, found)) == sorted(drawn)
    axes = {name: made.axes[0] for name, made in drawn.items()}
    first = "validation accuracy\n(the first of 2 objectives)"
    assert axes["history.png"].get_ylabel() == first
    assert axes["importances.png"].get_xlabel() == f"share of the spread of {first}"
    dots, front = axes["pareto.png"].lines
    assert (dots.get_label(), front.get_label()) == ("trial", "Pareto front")
    assert list(front.get_xdata()) == [0.85]
    assert front.get_zorder() > dots.get_zorder()
    labels = [line.get_label() for line in axes["history.png"].lines]
    assert labels == ["trial", "best so far"]
