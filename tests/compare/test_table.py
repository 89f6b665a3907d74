"""Rows, groups and their statistics: what comes out is what numpy says of the runs' own files."""

import json

import numpy
import pytest

from dltrain.commands.compare import table_of
from dltrain.compare.find import find_runs
from dltrain.compare.table import Options, in_short, make_table
from dltrain.compare.text import records
from dltrain.errors import UserError


def table(folder, **options):
    return make_table(find_runs([str(folder)]), Options(**options))


def read(folder, pattern, *keys):
    """What the runs' own files say, read without us."""
    values = []
    for path in sorted(folder.glob(pattern)):
        value = json.loads((path / "summary.json").read_text())
        for key in keys:
            value = value[key]
        values.append(value)
    return numpy.array(values)


def test_two_learning_rates_with_three_seeds_are_two_rows_of_numpys_numbers(sweep):
    rows = records(table(sweep, group="seed", metrics="best,accuracy/test,loss/val"))
    assert [row["optimizer.lr"] for row in rows] == [0.001, 0.01]
    assert [row["n"] for row in rows] == [3, 3]
    places = {"accuracy/val:best": ("best", "value"), "accuracy/test": ("test", "accuracy"),
              "loss/val:last": ("last", "loss/val"), "time": ("wall_time_sec",)}  # fmt: skip
    for row in rows:
        for name, keys in places.items():
            values = read(sweep, f"*_lr={row['optimizer.lr']}_*", *keys)
            assert row[f"{name} mean"] == values.mean()
            assert row[f"{name} std"] == values.std(ddof=1)
            assert f"{name} n" not in row, "that of the group holds"


def test_a_group_of_one_has_no_deviation(sweep):
    rows = records(table(sweep, group="seed", where="seed == 1"))
    assert [row["accuracy/val:best std"] for row in rows] == [None, None]
    assert "±" not in table_of([str(sweep)], group="seed", where="seed == 1")


def test_a_mean_over_fewer_runs_than_the_group_has_says_so(sweep):
    """A run without a test value is one of the three all the same."""
    path = next(sweep.glob("0_*")) / "summary.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items()
                                if k != "test"}))  # fmt: skip
    first, second = records(table(sweep, group="seed"))
    assert (first["n"], first["accuracy/test n"], second["accuracy/test n"]) == (3, 2, 3)
    assert "accuracy/val:best n" not in first
    assert table_of([str(sweep)], 120, group="seed").count("(n=2)") == 1


def test_a_group_says_its_n_whatever_columns_are_asked_for(sweep):
    assert [row["n"] for row in records(table(sweep, group="seed", columns="lr,best"))] == [3, 3]


def test_runs_of_two_machines_are_one_group_and_it_is_told(sweep):
    path = next(sweep.glob("0_*")) / "config.yaml"
    path.write_text(path.read_text().replace("trainer:", "trainer:\n  device: cpu"))
    found = table(sweep, group="seed")
    assert len(found.rows) == 2
    said = "runs that differ in trainer.device alone are in one group"
    assert said in found.notes
    for path in sweep.glob("[12]_*/config.yaml"):
        path.write_text(path.read_text().replace("trainer:", "trainer:\n  device: cpu"))
    assert said not in table(sweep, group="seed").notes, "each group is of one machine"


def test_several_keys_can_be_grouped_over_by_their_short_names(sweep):
    (row,) = records(table(sweep, group="seed,lr"))
    assert row["accuracy/val:best mean"] == read(sweep, "*", "best", "value").mean()
    assert row["n"] == 6


def test_a_group_says_what_its_runs_came_to(sweep, make_run):
    make_run("sweep/6_lr=0.01_seed=3", status="failed", seed=3, **{"optimizer.lr": 0.01})
    assert [row["status"] for row in records(table(sweep, group="seed"))] == [
        *("completed", "3 completed, 1 failed")
    ]


def test_a_seed_that_was_trained_twice_is_told(sweep, make_run):
    assert not any("repeat" in note for note in table(sweep, group="seed").notes)
    make_run("sweep/6_again", seed=2, **{"optimizer.lr": 0.01})
    assert "1 of the runs repeat another's seed" in table(sweep, group="seed").notes[0]


def test_damaged_runs_are_rows_but_in_no_group(sweep, make_run):
    (make_run("sweep/6_damaged") / "summary.json").write_text("{")
    assert [row["status"] for row in records(table(sweep))][-1] == "damaged"
    assert sum(row["n"] for row in records(table(sweep, group="seed"))) == 6
    assert len(records(table(sweep, where="status == damaged"))) == 1
    with pytest.raises(UserError, match="no run is left that can be compared"):
        table(sweep, group="seed", where="status == damaged")


def test_values_at_a_step_are_the_newest_up_to_it(sweep):
    first = records(table(sweep, at=120))[0]
    assert first["accuracy/val@120"] == 0.9 + 0.3 * 0.001 - 1 / 100
    assert records(table(sweep, at=49, metrics="loss/val@50"))[0]["loss/val@50"] == 1 / 50
    for step in (49, 151):  # before the first row; behind the last: the run has not come so far
        assert records(table(sweep, at=step))[0][f"accuracy/val@{step}"] is None


def test_a_step_holds_only_where_a_metric_says_nothing_else(sweep):
    row = records(table(sweep, at=50, metrics="loss/val,loss/val:min,loss/val@100,accuracy/test"))[
        0
    ]
    assert [name for name in row if "/" in name and name != "images/s"] == [
        *("loss/val@50", "loss/val:min", "loss/val@100", "accuracy/test")
    ]


def test_extremes_are_those_of_all_rows(sweep):
    row = records(table(sweep, metrics="loss/val:max,loss/val:min"))[0]
    assert row["loss/val:max"] == 1 / 50
    assert row["loss/val:min"] == 1 / 150


def test_a_file_of_metrics_is_read_only_where_it_is_asked_for(sweep, monkeypatch):
    from dltrain.compare import metrics

    read_files = []
    monkeypatch.setattr(metrics, "read_curves", lambda path, _: read_files.append(path) or {})
    table(sweep, group="seed", sort="best", where="accuracy/val > 0.1", metrics="best,loss/val")
    assert not read_files
    table(sweep, metrics="loss/val:min,accuracy/val@100", at=50)
    assert len(read_files) == 6, "once a run"


def test_where_leaves_runs_and_with_them_columns_out(sweep):
    found = records(table(sweep, where="lr > 0.001 and seed != 1"))
    assert [row["seed"] for row in found] == [0, 2]
    assert "optimizer.lr" not in found[0], "it differs no longer"
    with pytest.raises(UserError, match=r"no run is left .*\nseed is 0, 1, 2$"):
        table(sweep, where="seed == 7")
    with pytest.raises(UserError, match=r"\naccuracy/val:best is 0\.9003, 0\.903"):
        table(sweep, where="seed == 1 and best > 7")
    assert in_short(["b", 3, *range(8), None]) == "0, 1, 2, 3, 4, 5, ... (10 values)"
    assert in_short([0.5, *range(9)]) == "one of 10 values from 0 to 8"
    assert (
        len(records(table(sweep, where="accuracy/val:best >= 0.92 and status == completed"))) == 2
    )


def test_metrics_are_those_of_the_runs_that_are_left(sweep, make_run):
    run = make_run("sweep/other", seed=9)
    best = {"status": "completed", "best": {"monitor": "loss/val", "value": 0.25}}
    (run / "summary.json").write_text(json.dumps(best))
    assert "loss/val:best" in records(table(sweep))[0]
    assert "loss/val:best" not in records(table(sweep, where="seed != 9"))[0]
    assert "accuracy/val:best" not in records(table(sweep, where="seed == 9"))[0]
    with pytest.raises(UserError, match="no run has `accuracy/val`"):
        table(sweep, where="seed == 9", metrics="accuracy/val")


def test_best_and_test_stand_for_what_is_monitored(sweep):
    rows = records(table(sweep, sort="test", descending=True, columns="test,best"))
    values = [row["accuracy/test"] for row in rows]
    assert values == sorted(values, reverse=True)
    assert len(records(table(sweep, where="test > 0.9"))) == 2


def test_a_metric_without_a_split_is_that_of_validation(sweep, make_run):
    (row, *_) = records(table(sweep, metrics="loss", columns=""))
    assert "loss/val:last" in row
    assert "accuracy/val@100" in records(table(sweep, metrics="accuracy@100"))[0]
    assert list(records(table(sweep, columns="accuracy"))[0]) == ["accuracy/val:last"]
    last = {"status": "completed", "last": {"f1/train": 1.0, "lr/train": 0.5}, "test": {"f1": 0.5}}
    run = make_run("other/a")
    (run / "summary.json").write_text(json.dumps(last))
    assert "lr/train:last" in records(table(run, metrics="lr"))[0]
    with pytest.raises(UserError, match="`f1` can be `f1/train`, `f1/test`; write one"):
        table(run, metrics="f1")


def test_rows_are_sorted_with_what_has_no_value_last(sweep, make_run):
    make_run("sweep/6_young")
    (sweep / "6_young" / "summary.json").write_text('{"status": "completed"}')
    for descending in (False, True):
        rows = records(table(sweep, sort="best", descending=descending))
        values = [row["accuracy/val:best"] for row in rows]
        assert values[-1] is None
        assert values[:-1] == sorted(values[:-1], reverse=descending)
    names = [row["run"] for row in records(table(sweep, sort="run", descending=True))]
    assert names[0].startswith("6_")


def test_columns_are_those_that_are_typed(sweep):
    rows = records(table(sweep, columns="status,weight_decay,accuracy/test,step,wall_time_sec"))
    assert list(rows[0]) == [*("status", "optimizer.weight_decay", "accuracy/test", "step", "time")]
    assert rows[0]["optimizer.weight_decay"] == 0.01
    rows = records(table(sweep, columns="lr,best", group="seed"))
    assert list(rows[0])[:2] == ["optimizer.lr", "accuracy/val:best mean"]


def test_runs_that_monitor_different_metrics_have_a_column_each(make_run, tmp_path):
    make_run("a")
    run = make_run("b", seed=1)
    best = {"status": "completed", "best": {"monitor": "loss/val", "value": 0.25}}
    (run / "summary.json").write_text(json.dumps(best))
    first, second = records(table(tmp_path))
    assert (first["accuracy/val:best"], first["loss/val:best"]) == (0.9, None)
    assert (second["accuracy/val:best"], second["loss/val:best"]) == (None, 0.25)


@pytest.mark.parametrize(("options", "message"), [
    ({"where": "optimzer.lr == 1"}, "did you mean `optimizer.lr`"),
    ({"sort": "accuracy/vall"}, "split is one of train, val, test"),
    ({"sort": "acuracy/val"}, "did you mean `accuracy/val`"),
    ({"group": "sed"}, "did you mean `seed`"),
    ({"columns": "run,,nothing"}, "no run has `nothing`; there are run, status, time, images/s"),
    ({"columns": "nothing"}, "best, test, loss/val, accuracy/val, loss/test, accuracy/test, opti"),
    ({"columns": ","}, "--columns needs names"),
    ({"metrics": "loss/val:mean"}, "write one of :best, :last, :min, :max"),
    ({"metrics": "loss/val:best"}, "no run monitors loss/val; write loss/val:min"),
    ({"metrics": "a b"}, "is no metric"),
    ({"metrics": "f1/val"}, "no run has `f1/val`"),
    ({"metrics": "acuracy"}, "no run has `acuracy`; did you mean `accuracy`"),
])  # fmt: skip
def test_a_name_that_nothing_has_is_refused(sweep, options, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        table(sweep, **options)


def test_numbers_in_names_sort_as_numbers(make_run, tmp_path):
    for name in ("x_lr=0.01", "x_lr=0.001", "x_lr=0.1", "y2", "y10"):
        make_run(f"s/{name}")
    runs = find_runs([str(tmp_path / "s")])
    expected = ["x_lr=0.001", "x_lr=0.01", "x_lr=0.1", "y2", "y10"]
    assert [run.name for run in runs] == expected
    table = make_table(runs, Options(sort="run"))
    assert [row[0] for row in table.rows] == expected


def test_n_can_be_asked_for(sweep):
    table = make_table(find_runs([str(sweep)]), Options(group="seed", columns="lr,n"))
    assert table.rows == [[0.001, 3], [0.01, 3]]
    with pytest.raises(UserError, match="`n` is of groups"):
        make_table(find_runs([str(sweep)]), Options(columns="n"))
