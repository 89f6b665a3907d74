"""Plots: what is drawn is what the files say, and what cannot be drawn is said."""

import sys

import matplotlib
import pytest
from matplotlib.figure import Figure

from dltrain.compare.find import find_runs
from dltrain.compare.plot import MAX_LINES, plot_curves, plot_heatmap
from dltrain.compare.table import Options
from dltrain.errors import UserError


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, as matplotlib holds them."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))
    )
    return figures


def curves(folder, file="x.svg", smooth=None, **options):
    path = folder.parent / file
    notes = plot_curves(find_runs([str(folder)]), Options(**options), smooth, path)
    return notes, path


def test_a_line_a_group_with_its_spread(sweep, drawn):
    _, path = curves(sweep, group="seed")
    assert path.read_text().startswith("<?xml")
    (axes,) = drawn[0].axes
    assert len(axes.lines) == 2
    assert len(axes.collections) == 2, "a band each"
    expected = [sum(0.9 + 0.3 * 0.01 + 0.0123456789 * s - 1 / n for s in range(3)) / 3
                for n in (50, 100, 150)]  # fmt: skip
    assert list(axes.lines[0].get_ydata()) == pytest.approx(expected)
    (legend,) = drawn[0].legends
    assert legend.get_title().get_text() == "mean ± std over seed, n = 3"
    assert [each.get_text() for each in legend.get_texts()] == ["lr 0.01", "lr 0.001"]


def test_a_line_a_run_without_a_band(sweep, drawn):
    curves(sweep, metrics="loss/val", where="lr == 0.01")
    (axes,) = drawn[0].axes
    assert len(axes.lines) == 3
    assert not axes.collections
    assert axes.get_ylabel() == "validation loss"
    assert list(axes.lines[0].get_ydata()) == [1 / 50, 1 / 100, 1 / 150], "not smoothed"


def test_smoothing_is_said(sweep, drawn):
    curves(sweep, metrics="loss/val", smooth=0.5)
    (axes,) = drawn[0].axes
    assert "moving average, 0.5" in axes.get_ylabel()
    assert axes.lines[0].get_ydata()[1] == pytest.approx((0.25 / 50 + 0.5 / 100) / 0.75)


def test_a_run_that_ended_early_cuts_the_mean_and_is_named(sweep):
    file = sweep / "0_lr=0.001_seed=0" / "metrics.jsonl"
    file.write_text(file.read_text().splitlines()[0] + "\n")
    notes, _ = curves(sweep, group="seed")
    assert notes == ["lr 0.001: not drawn where not all of its 3 runs have a value"]


def test_the_same_runs_give_the_same_file(sweep):
    for name in ("a.svg", "a.png", "a.pdf"):
        first = curves(sweep, name, group="seed")[1].read_bytes()
        assert curves(sweep, name, group="seed")[1].read_bytes() == first
        assert len(first) < 200_000


def test_a_dollar_in_a_setting_is_a_dollar(make_run, tmp_path, drawn):
    row = [{"step": 1, "split": "val", "accuracy": 0.5}]
    for number, text in enumerate(["$\\frac{$", "\x1b[2J"]):
        make_run(f"s/{number}", rows=row, **{"model.note": text})
    curves(tmp_path / "s")
    labels = [each.get_text() for each in drawn[0].legends[0].get_texts()]
    assert set(labels) == {"note $\\frac{$", "note \\x1b[2J"}


def test_more_lines_than_can_be_told_apart_are_refused(make_run, tmp_path):
    row = [{"step": 1, "split": "val", "accuracy": 0.5}]
    for number in range(MAX_LINES + 1):
        make_run(f"s/{number}", rows=row, seed=number)
    with pytest.raises(UserError, match=f"more than the {MAX_LINES}"):
        curves(tmp_path / "s")
    curves(tmp_path / "s", group="seed")


def test_no_curve_and_two_metrics_are_refused(sweep, make_run, tmp_path):
    make_run("empty/a")
    with pytest.raises(UserError, match="no run has accuracy/val in its"):
        curves(tmp_path / "empty")
    with pytest.raises(UserError, match="draws one metric"):
        curves(sweep, metrics="loss/val,accuracy/val")


def test_without_matplotlib_the_extra_is_named(sweep, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install 'dltrain\[plot\]'"):
        curves(sweep)


# ---------------------------------------------------------------------- the map


@pytest.fixture
def grid(make_run, tmp_path):
    for lr in (0.1, 0.01, 0.001):
        for dropout in (0, 0.5):
            for seed in (0, 1):
                if (lr, dropout) != (0.1, 0.5):  # a job that is missing
                    make_run(
                        f"grid/{lr}_{dropout}_{seed}",
                        accuracy=0.5 + lr + dropout / 10 + seed / 50,
                        seed=seed,
                        **{"optimizer.lr": lr, "model.dropout": dropout},
                    )
    return tmp_path / "grid"


def heatmap(folder, keys=(), **options):
    plot_heatmap(find_runs([str(folder)]), Options(**options), keys, folder.parent / "map.png")


@pytest.mark.parametrize("keys", [(), ("dropout", "optimizer.lr")])
def test_a_cell_is_the_mean_over_what_is_grouped(grid, drawn, keys):
    heatmap(grid, keys, group="seed")
    axes = drawn[0].axes[0]
    values = axes.images[0].get_array().filled(float("nan"))  # [y, x], the smallest first
    expected = [[0.511, 0.52, 0.61], [0.561, 0.57, float("nan")]]
    across, down = [[t.get_text() for t in ts] for ts in (axes.get_xticklabels(),
                    axes.get_yticklabels())]  # fmt: skip
    if axes.get_xlabel() == "dropout":
        values, across, down = values.T, down, across
    assert (across, down) == (["0.001", "0.01", "0.1"], ["0", "0.5"])
    assert values.tolist() == [pytest.approx(row, nan_ok=True) for row in expected]
    assert len(axes.texts) == 5, "a value is written in each cell that has one"


def test_more_than_two_settings_are_refused_with_the_ways_out(grid, sweep):
    with pytest.raises(UserError, match="differ in seed as well; a map has two") as caught:
        heatmap(grid, ("lr", "dropout"))
    assert "--where" in str(caught.value)
    with pytest.raises(UserError, match=r"differ in optimizer\.lr; a map has two"):
        heatmap(sweep, group="seed")
    heatmap(grid, ("lr", "dropout"), where="seed == 1")


def test_nothing_of_ours_stays_in_matplotlibs_settings(sweep):
    before = dict(matplotlib.rcParams)
    curves(sweep)
    assert dict(matplotlib.rcParams) == before
