"""Whatever a run's files hold, reading them ends soon, is bounded, and never raises."""

import json
import os
import tracemalloc

import pytest

from dltrain.compare.find import find_runs
from dltrain.compare.run import MAX_METRICS, flatten, read_run
from dltrain.compare.table import Options, make_table
from dltrain.compare.text import FORMATS, to_screen
from dltrain.errors import UserError

WRONG = [None, 5, "x", [], {}, True, 1e999, "\x1b[2J", {"a": [1]}, 10**400, -1]
KEYS = ["status", "step", "best", "last", "test", "wall_time_sec", "samples_per_sec", "epoch"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:12])
def test_a_summary_of_anything_is_shown_or_damaged(make_run, key, value):
    run = make_run("a")
    make_run("b", seed=1)
    summary = json.loads((run / "summary.json").read_text()) | {key: value}
    (run / "summary.json").write_text(json.dumps(summary))
    found = find_runs([str(run.parent)])
    assert found[0].status in ("completed", "damaged")
    table = make_table(found, Options())
    for text in (to_screen(table, 80), *(make(table) for make in FORMATS.values())):
        assert "\x1b" not in text


@pytest.mark.parametrize("best", [{}, {"value": 1}, {"monitor": [1], "value": 1}, {"monitor": "x"}])
def test_a_best_that_is_none_is_left_out(make_run, best):
    run = make_run("a")
    (run / "summary.json").write_text(json.dumps({"status": "completed", "best": best}))
    assert read_run(run).best is None


@pytest.mark.parametrize("name", ["config.yaml", "summary.json", "run.json", "metrics.jsonl"])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "zeros", "deep", "2 GB"])
def test_a_hostile_file_is_never_followed_waited_for_or_read_whole(make_run, tmp_path, name, kind):
    make_run("good")
    run = make_run("bad", seed=1)
    (tmp_path / "secret.yaml").write_text((run / "config.yaml").read_text())
    (run / name).unlink()
    if kind == "pipe":
        os.mkfifo(run / name)
    elif kind in ("link", "zeros"):
        (run / name).symlink_to("/dev/zero" if kind == "zeros" else tmp_path / "secret.yaml")
    elif kind == "folder":
        (run / name).mkdir()
    elif kind == "deep":
        (run / name).write_text("[" * 10**5 + "\n")
    else:
        (run / name).touch()
        os.truncate(run / name, 2 << 30)
    tracemalloc.start()
    try:
        found = find_runs([str(tmp_path)])
        table = make_table(found, Options(at=50) if name == "metrics.jsonl" else Options())
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    status = {run.path.name: run.status for run in found}
    assert status["good"] == "completed"
    harmless = name in ("run.json", "metrics.jsonl")
    assert status["bad"] == ("completed" if harmless else "damaged")
    assert len(table.rows) == 2


def test_what_is_kept_of_a_run_is_small(make_run):
    run = make_run("a", **{"model.hidden_sizes": list(range(5000)), "name": "x" * 100_000})
    summary = {"status": "completed", "last": {f"m{n}/val": n for n in range(50_000)}}
    (run / "summary.json").write_text(json.dumps(summary))
    kept = read_run(run)
    assert len(kept.last) == MAX_METRICS
    assert max(len(str(value)) for value in kept.settings.values()) <= 200
    with pytest.raises(UserError, match="more than 2,000 settings"):
        flatten({"a": {str(number): number for number in range(3000)}})
    with pytest.raises(UserError, match="more than 200 characters"):
        flatten({"a" * 150: {"b" * 150: 1}})


def test_long_values_that_begin_alike_stay_different():
    first, second = (flatten({"a": "x" * 500 + end})["a"] for end in "12")
    assert first != second


def test_a_list_is_written_as_it_is_typed():
    config = {"a": [256, 0.5, True, None, "relu"], "b": [[1, 2], {"c": None}], "d": []}
    assert flatten(config) == {
        "a": "[256,0.5,true,null,relu]",
        "b": '[[1,2],{"c":null}]',
        "d": "[]",
    }
