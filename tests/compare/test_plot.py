"""Plots: what is drawn is what the files say, and what cannot be drawn is said."""

import json
import sys

import matplotlib
import pytest
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from dltrain.compare.find import find_runs
from dltrain.compare.heatmap import plot_heatmap
from dltrain.compare.plot import LONG, MAX_LINES, PALETTE, plot_curves
from dltrain.compare.table import Options
from dltrain.errors import UserError


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
    assert list(axes.lines[1].get_ydata()) == pytest.approx(expected)
    (legend,) = drawn[0].legends
    assert legend.get_title().get_text() == "mean ± sample std over seed, n = 3"
    assert [each.get_text() for each in legend.get_texts()] == ["lr 0.001", "lr 0.01"]


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
    raw, smooth = axes.lines[:2]
    assert smooth.get_ydata()[1] == pytest.approx((0.25 / 50 + 0.5 / 100) / 0.75)
    assert list(raw.get_ydata()) == [1 / 50, 1 / 100, 1 / 150], "what it is an average of"
    assert raw.get_linewidth() < smooth.get_linewidth()


@pytest.mark.parametrize(("num_rows", "said"), [(LONG - 1, False), (LONG, True)])
def test_a_handful_of_points_is_not_smoothed(make_run, tmp_path, drawn, num_rows, said):
    rows = [{"step": step, "split": "train", "loss": 1 / step} for step in range(1, num_rows + 1)]
    make_run("s/a", rows=rows)
    curves(tmp_path / "s", metrics="loss/train")
    assert ("moving average" in drawn[0].axes[0].get_ylabel()) == said


def test_steps_are_whole_numbers(make_run, tmp_path, drawn):
    rows = [{"step": step, "split": "val", "accuracy": step / 9} for step in (1, 2, 3)]
    make_run("s/a", rows=rows)
    curves(tmp_path / "s")
    (axes,) = drawn[0].axes
    assert all(tick == int(tick) for tick in axes.get_xticks())
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert len(set(labels)) == len(labels)


def test_runs_of_one_setting_look_alike_and_have_one_entry(sweep, drawn):
    notes, _ = curves(sweep)
    (axes,) = drawn[0].axes
    assert [line.get_color() for line in axes.lines] == [PALETTE[0]] * 3 + [PALETTE[1]] * 3
    labels = [each.get_text() for each in drawn[0].legends[0].get_texts()]
    assert labels == ["lr 0.001 (3 runs)", "lr 0.01 (3 runs)"]
    assert notes == []


def test_a_curve_below_another_is_named(sweep):
    notes, _ = curves(sweep, metrics="loss/val", where="seed == 0")
    assert notes == ["lr 0.01: the same curve as lr 0.001, and drawn over it"]


def test_a_test_metric_is_points_with_their_spread(sweep, drawn):
    for folder in sweep.iterdir():
        seed = int(folder.name[-1])
        with open(folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": 150, "split": "test", "accuracy": seed / 10}) + "\n")
    curves(sweep, metrics="test", group="seed")
    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lr 0.01", "lr 0.001"]
    assert axes.get_xlabel() == "test accuracy\nmean ± sample std over seed, n = 3"
    (bar, *_) = axes.containers
    assert list(bar.lines[0].get_xdata()) == pytest.approx([0.1])
    ((low, high),) = (segment[:, 0] for segment in bar.lines[2][0].get_segments())
    assert (low, high) == pytest.approx((0.0, 0.2))
    curves(sweep, metrics="test")
    assert not drawn[1].axes[0].containers, "of a single run there is no spread"


def test_text_in_a_file_for_paper_is_text(sweep):
    assert "sample std over seed" in curves(sweep, "x.svg", group="seed")[1].read_text()
    assert b"/Type3" not in curves(sweep, "x.pdf", group="seed")[1].read_bytes()


def test_a_picture_is_whole_or_not_there(sweep, monkeypatch):
    _, path = curves(sweep)
    before = path.read_bytes()

    def torn(figure, file, **_):
        (file.write(b"half") if hasattr(file, "write") else file.write_bytes(b"half"))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", torn)
    with pytest.raises(OSError, match="No space"):
        curves(sweep)
    assert path.read_bytes() == before


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
    row = [{"step": n, "split": "val", "accuracy": 0.5} for n in (1, 2)]
    for number, text in enumerate(["$\\frac{$", "\x1b[2J"]):
        make_run(f"s/{number}", rows=row, **{"model.note": text})
    curves(tmp_path / "s")
    labels = [each.get_text() for each in drawn[0].legends[0].get_texts()]
    assert set(labels) == {"note $\\frac{$", "note \\x1b[2J"}


def test_more_lines_than_can_be_told_apart_are_refused(make_run, tmp_path):
    row = [{"step": n, "split": "val", "accuracy": 0.5} for n in (1, 2)]
    for number in range(MAX_LINES + 1):
        make_run(f"s/{number}", rows=row, seed=number)
    with pytest.raises(UserError, match=f"more than the {MAX_LINES}"):
        curves(tmp_path / "s")
    curves(tmp_path / "s", group="seed")


@pytest.fixture
def rates(make_run, tmp_path):
    """As many learning rates, in decades, as one palette has no colours for; one went on."""
    for number in range(len(PALETTE) + 1):
        row = [{"step": n, "split": "val", "accuracy": 0.1 * number - 1 / n} for n in (2, 4)]
        changes = {"optimizer.lr": 10 ** (number / 2 - 4), "trainer.max_epochs": 5 + (number == 3)}
        make_run(f"s/{number}_lr=x", rows=row, accuracy=0.1 * number, **changes)
    return tmp_path / "s"


def test_many_values_of_one_number_have_a_scale_of_colours(rates, drawn):
    """The lines say which is larger; one that went on for longer is no other setting."""
    notes, _ = curves(rates)
    axes, bar = drawn[0].axes
    assert not drawn[0].legends
    assert bar.get_ylabel() == "lr"
    assert isinstance(bar._colorbar.norm, LogNorm)
    brightness = [sum(line.get_color()[:2]) for line in axes.lines]
    assert brightness == sorted(brightness)
    assert len({line.get_color() for line in axes.lines}) == len(axes.lines)
    assert {line.get_linestyle() for line in axes.lines} == {"-"}
    assert notes == []


def test_a_budget_tells_curves_apart_where_nothing_else_does(rates, drawn):
    curves(rates, where="lr < 0.01")
    labels = [each.get_text() for each in drawn[0].legends[0].get_texts()]
    assert labels == ["lr 0.0001", "lr 0.000316228", "lr 0.001", "lr 0.00316228"]
    for number in (0, 1):
        (rates / f"{number}_lr=x" / "config.yaml").write_text(
            (rates / "3_lr=x" / "config.yaml").read_text().replace("s: 6", f"s: {number}")
        )
    curves(rates, where="max_epochs < 2")
    labels = [each.get_text() for each in drawn[1].legends[0].get_texts()]
    assert labels == ["max_epochs 0", "max_epochs 1"]


def test_the_best_values_are_points_however_many(make_run, tmp_path, drawn):
    for number in range(MAX_LINES + 1):
        row = [{"step": n, "split": "val", "accuracy": n / 100} for n in (2, 3)]
        make_run(f"s/{number}", rows=row, accuracy=number / 100, seed=number)
    for metric, expected in (("best", 0.0), ("accuracy/val:min", 0.02), ("accuracy/val@2", 0.02)):
        curves(tmp_path / "s", metrics=metric)
        (axes,) = drawn[-1].axes
        assert len(axes.get_yticklabels()) == MAX_LINES + 1
        assert list(axes.lines[0].get_xdata()) == [expected], metric


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
    written = [text.get_text() for text in axes.texts]
    assert sorted(written) == ["51.1", "52.0", "56.1", "57.0", "61.0", "no run"]
    assert drawn[0].axes[1].get_ylabel() == "validation accuracy\n(best, in %, mean of 2 runs)"


def test_a_hole_in_the_map_says_why_it_is_one(grid, drawn):
    (grid / "0.01_0_1" / "summary.json").unlink()
    for seed in (0, 1):
        (grid / f"0.01_0.5_{seed}" / "summary.json").unlink()
    heatmap(grid, group="seed")
    written = [text.get_text() for text in drawn[0].axes[0].texts]
    assert sorted(written) == ["51.0\n(n=1)", "51.1", "56.1", "61.0", "no run", "no value"]
    assert "mean of 1 to 2 runs" in drawn[0].axes[1].get_ylabel()


def test_the_map_is_of_the_step_that_is_asked_for(sweep, make_run, drawn):
    heatmap(sweep, ("lr", "seed"), at=100)
    assert "at step 100" in drawn[0].axes[1].get_ylabel()
    best = {"status": "completed", "best": {"monitor": "loss/val", "value": 0.25}}
    (make_run("sweep/other", seed=9) / "summary.json").write_text(json.dumps(best))
    heatmap(sweep, ("lr", "seed"), where="seed < 9")
    assert "validation accuracy" in drawn[1].axes[1].get_ylabel()


def test_more_than_two_settings_are_refused_with_the_ways_out(grid, sweep):
    with pytest.raises(UserError, match="differ in seed as well; a map has two") as caught:
        heatmap(grid, ("lr", "dropout"))
    assert "--where" in str(caught.value)
    with pytest.raises(UserError, match=r"differ in optimizer\.lr; a map has two"):
        heatmap(sweep, group="seed")
    heatmap(grid, ("lr", "dropout"), where="seed == 1")


def test_a_map_of_values_that_were_drawn_is_refused_with_the_way_out(make_run, tmp_path):
    for number in range(6):
        changes = {"optimizer.lr": 0.1 + 0.01 * number, "model.dropout": number % 2}
        make_run(f"s/{number}", **changes)
    with pytest.raises(UserError, match=r"6 of the 6 values of optimizer\.lr") as caught:
        heatmap(tmp_path / "s")
    assert "--x optimizer.lr" in str(caught.value)
    make_run("s/6", **{"optimizer.lr": 0.1, "model.dropout": 1})
    heatmap(tmp_path / "s", where="lr < 0.145")


def test_nothing_of_ours_stays_in_matplotlibs_settings(sweep):
    before = dict(matplotlib.rcParams)
    curves(sweep)
    assert dict(matplotlib.rcParams) == before
