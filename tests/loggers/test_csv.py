"""metrics.csv is one table with a row a step, and a resumed run's is the uninterrupted one's."""

import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dltrain.loggers import csv as csv_logger
from dltrain.loggers.csv import CSV


def start(run_dir, *, resume_step=None, state=None):
    logger = CSV()
    logger.start(run_dir, config={}, resume_step=resume_step, state=state)
    return logger


def kill(logger):
    """What was written stays, and nothing is said at the end."""
    logger._file.close()


def table(run_dir):
    return list(csv.reader((run_dir / "metrics.csv").read_text().splitlines()))


def test_values_of_one_step_share_a_row_and_columns_come_as_needed(tmp_path):
    logger = start(tmp_path)
    logger.log_scalars(1, {"loss/train": 0.5}, 10.0)
    logger.flush()  # the row is on the disk, and gets more values all the same
    logger.log_scalars(1, {"loss/val": float("nan")}, 11.0)
    logger.log_scalars(2, {"loss/train": 1234.5678}, 12.0)
    logger.flush()
    logger.log_scalars(2, {"loss/train": 0.5}, 12.0)  # shorter than what it replaces
    logger.flush()
    assert table(tmp_path)[2:] == [["2", "12.000", "0.5", ""]]
    logger.log_scalars(2, {"loss/train": 0.1 + 0.2}, 12.0)
    logger.close("completed", 13.0)
    assert table(tmp_path) == [
        ["step", "time", "loss/train", "loss/val"],
        ["1", "10.000", "0.5", "nan"],
        ["2", "12.000", "0.30000000000000004", ""],
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_values_of_an_earlier_step_find_its_row(tmp_path):
    logger = start(tmp_path)
    for step in (1, 2, 4):
        logger.log_scalars(step, {"loss/train": step}, 0.0)
    logger.log_scalars(2, {"loss/test": 9.0}, 1.0)
    logger.log_scalars(3, {"loss/test": 8.0}, 1.0)
    logger.log_scalars(4, {"loss/test": 7.0}, 1.0)
    logger.log_scalars(5, {"loss/test": 6.0}, 1.0)
    logger.close("completed", 13.0)
    assert [(row[0], *row[2:]) for row in table(tmp_path)[1:]] == [
        ("1", "1.0", ""),
        ("2", "2.0", "9.0"),
        ("3", "", "8.0"),
        ("4", "4.0", "7.0"),
        ("5", "", "6.0"),
    ]


NAMES = st.sampled_from(["a", "b", 'c,"d"'])
LOGS = st.lists(st.tuples(st.integers(0, 3), st.dictionaries(NAMES, st.floats(width=32))))


@settings(deadline=None)
@given(logs=LOGS, cut=st.integers(0, 30), lost=LOGS, torn=st.text("12,.", max_size=4))
def test_resumed_equals_uninterrupted(tmp_path_factory, logs, cut, lost, torn):
    steps, logs_at = 1, []
    for gap, values in logs:
        steps += gap
        logs_at.append((steps, values))
    cut = min(cut, len(logs_at))
    whole_dir, run_dir = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("run")

    whole = start(whole_dir)
    for step, values in logs_at:
        whole.log_scalars(step, values, float(step))
    whole.close("completed", 0.0)

    logger = start(run_dir)
    for step, values in logs_at[:cut]:
        logger.log_scalars(step, values, float(step))
    logger.flush()
    state, step = logger.state_dict(), logs_at[cut - 1][0] if cut else 0
    for gap, values in lost:
        logger.log_scalars(step + gap, values, -1.0)
    logger.flush()
    kill(logger)
    with (run_dir / "metrics.csv").open("a") as file:
        file.write(torn)
    logger = start(run_dir, resume_step=step, state=state)
    for step, values in logs_at[cut:]:
        logger.log_scalars(step, values, float(step))
    logger.close("completed", 0.0)
    assert (run_dir / "metrics.csv").read_text() == (whole_dir / "metrics.csv").read_text()


def test_a_checkpoint_without_our_state_goes_by_the_steps(tmp_path):
    logger = start(tmp_path)
    for step in (1, 2, 3):
        logger.log_scalars(step, {"loss/train": step}, 0.0)
    logger.close("interrupted", 0.0)
    logger = start(tmp_path, resume_step=2)
    logger.log_scalars(3, {"loss/train": 0.5}, 0.0)
    logger.close("completed", 0.0)
    assert [row[::2] for row in table(tmp_path)[1:]] == [["1", "1.0"], ["2", "2.0"], ["3", "0.5"]]


@pytest.mark.parametrize("left", ["", "step,time,loss/tr"])
def test_a_table_lost_with_the_machine_does_not_stop_a_run(tmp_path, left):
    (tmp_path / "metrics.csv").write_text(left)
    logger = start(tmp_path, resume_step=5)
    logger.log_scalars(6, {"loss/train": 0.5}, 0.0)
    logger.close("completed", 0.0)
    assert table(tmp_path) == [["step", "time", "loss/train"], ["6", "0.000", "0.5"]]


def test_a_run_that_starts_over_has_an_empty_table(tmp_path):
    for loss in (0.5, 0.25):
        logger = start(tmp_path)
        logger.log_scalars(1, {"loss/train": loss}, 0.0)
        logger.flush()
        kill(logger)
    kill(start(tmp_path))
    assert table(tmp_path) == [["step", "time"]]


DAMAGES = {
    "saved by a spreadsheet": (b"\xff\xfes\0t\0e\0p\0\n", [], "begins anew"),
    "with semicolons": (b"step;time;loss/train\n1;10.000;1.0\n", [], "begins anew"),
    "empty": (b"", [], None),
    "a column twice": (b"step,time,a,a\n1,1.0,1,1\n", [], "begins anew"),
    "rows that are none": (
        b"step,time,loss/train\nx,1,2\n1,10.000,1.0\n\n1,2\n-2,1,1\n\xff,1,1\n",
        ["1"], "5 rows cannot be read",
    ),
    "a cell without end": (
        b'step,time,loss/train\n1,10.000,"' + b"a" * 200_000 + b"\n", [], "1 rows",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_table_that_was_changed_stops_no_run(name, tmp_path, caplog):
    """It is a copy; what can be read of it stays."""
    data, steps, said = DAMAGES[name]
    logger = start(tmp_path)
    logger.log_scalars(2, {"loss/train": 2.0}, 20.0)
    state = logger.state_dict()
    logger.close("interrupted", 21.0)
    (tmp_path / "metrics.csv").write_bytes(data)
    logger = start(tmp_path, resume_step=2, state=state)
    logger.log_scalars(3, {"loss/train": 3.0}, 30.0)
    logger.close("completed", 31.0)
    assert [row[0] for row in table(tmp_path)] == ["step", *steps, "2", "3"]
    assert said in caplog.text if said else not caplog.text


def test_so_it_is_while_the_run_goes_on(tmp_path, monkeypatch):
    logger = start(tmp_path)
    logger.log_scalars(1, {"loss/train": 1.0}, 10.0)
    logger.flush()
    (tmp_path / "metrics.csv").write_text("mine")
    logger.log_scalars(2, {"loss/val": 2.0}, 20.0)  # a column that makes it read its table
    logger.close("completed", 31.0)
    assert table(tmp_path)[-1] == ["2", "20.000", "", "2.0"]
    monkeypatch.setattr(csv_logger, "MAX_BYTES", 10)
    logger = start(tmp_path, resume_step=2)
    logger.log_scalars(3, {"loss/val": 3.0}, 30.0)
    logger.close("completed", 31.0)
    assert table(tmp_path) == [["step", "time", "loss/val"], ["3", "30.000", "3.0"]]
