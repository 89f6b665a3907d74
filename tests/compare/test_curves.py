"""Rows of a run as curves, whatever else the file holds; smoothing; mean and spread."""

import os

import numpy
import pytest

from dltrain import runs
from dltrain.compare.curves import Curve, read_curves
from dltrain.compare.smooth import line_over, smoothed
from dltrain.errors import UserError

GOOD = b'{"step": 1, "split": "val", "loss": 0.5}\n{"step": 2, "split": "val", "loss": 0.25}\n'
WANTED = [("loss", "val")]


def curve_of(values, steps=None):
    curve = Curve()
    for step, value in zip(steps or range(1, len(values) + 1), values, strict=True):
        curve.append(step, value)
    return curve


@pytest.mark.parametrize("line", [
    b'{"step": 3, "split": "val", "lo', b"[]\n", b"\xff\xfe\n", b"[" * 10**5 + b"\n", b"\n",
    b'{"step": 3, "split": "val", "loss": null}\n', b'{"step": "3", "split": "val", "loss": 1}\n',
    b'{"step": 3, "split": "val", "loss": NaN}\n', b'{"step": -3, "split": "val", "loss": 1}\n',
    b'{"step": 3, "split": "train", "loss": 1}\n', b'{"step": 2, "split": "val", "loss": 9}\n',
    b'{"step": 18446744073709551616, "split": "val", "loss": 1}\n', b"9" * 100_000 + b"\n",
    b'{"step": 3, "split": "val", "loss": ' + b"9" * 400 + b"}\n",
], ids=lambda line: line[:24])  # fmt: skip
def test_a_line_that_is_no_row_is_left_out(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_bytes(GOOD + line)
    curve = read_curves(tmp_path, WANTED)["loss", "val"]
    assert (list(curve.steps), list(curve.values)) == ([1, 2], [0.5, 0.25])


def test_no_more_than_so_much_of_a_file_is_read(tmp_path, monkeypatch):
    (tmp_path / "metrics.jsonl").write_bytes(GOOD)
    for limit, value in (("MAX_ROWS_BYTES", len(GOOD) - 1), ("MAX_ROWS", 1)):
        with monkeypatch.context() as patch:
            patch.setattr(runs, limit, value)
            with pytest.raises(UserError, match="more than"):
                read_curves(tmp_path, WANTED)


def test_what_is_no_file_is_neither_followed_nor_waited_for(tmp_path):
    path = tmp_path / "metrics.jsonl"
    (tmp_path / "elsewhere").write_bytes(GOOD)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="it is a link"):
        read_curves(tmp_path, WANTED)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="not a regular file"):
        read_curves(tmp_path, WANTED)


def test_a_run_without_the_file_has_empty_curves(tmp_path):
    assert not read_curves(tmp_path, WANTED)["loss", "val"].steps


def test_smoothing_is_an_average_that_begins_with_the_first_value():
    values = [4.0, 0.0, 2.0, 2.0]
    assert smoothed(values, 0.0) == values
    assert smoothed([3.0] * 4, 0.9) == pytest.approx([3.0] * 4)
    weights = 0.5 ** numpy.arange(4)[::-1]  # of the last: the newest has the most
    assert smoothed(values, 0.5)[-1] == pytest.approx(numpy.average(values, weights=weights))


def test_mean_and_spread_are_numpys_at_the_steps_that_all_have():
    values = numpy.random.default_rng(0).normal(size=(3, 5))
    runs = [curve_of(row.tolist()) for row in values]
    runs.append(curve_of(values[0, :3].tolist()))  # ended early
    line = line_over("x", runs, 0.0)
    together = numpy.concatenate([values[:, :3], values[:1, :3]])
    assert line.steps == [1, 2, 3]
    numpy.testing.assert_allclose(line.means, together.mean(0))
    numpy.testing.assert_allclose(line.stds, together.std(0, ddof=1))
    assert line_over("x", runs[:1], 0.0).stds == [0.0] * 5
