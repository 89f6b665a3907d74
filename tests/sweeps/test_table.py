"""What a sweep shows: while it runs, and when it is over."""

from dataclasses import replace

import pytest

from dltrain.sweeps.ledger import JobRecord, JobState
from dltrain.sweeps.live import Screen, draw
from dltrain.sweeps.objectives import Objective, pareto_front
from dltrain.sweeps.table import Several, end_table, label


def job(number, **swept):
    config = {"checkpoint": {"monitor": "accuracy/val", "mode": "max"}}
    keys = {key.replace("__", "."): value for key, value in swept.items()}
    return JobRecord(number, [], keys, str(number), config, {}, {})


JOBS = [job(n, optimizer__lr=lr, seed=str(n % 2)) for n, lr in enumerate(("0.1", "0.01", "1", "3"))]
STATES = [
    JobState(JOBS[0], "done", 0.9, "", 60, 3.2, 40),
    JobState(JOBS[1], "done", 0.95, "", 60, 70.0, 60),
    JobState(JOBS[2], "failed", 0.99, "step 9: the loss is nan\ntry a smaller one", 9, 0.1, 2),
    JobState(JOBS[3], "pruned", 0.5, "", 20, 1.0, 20),
    JobState(job(4, optimizer__lr="7", seed="0"), "pending"),
]


def test_the_best_comes_first_and_what_failed_last_with_its_reason():
    assert end_table(STATES, "accuracy/val", "max", 80) == [
        "job  lr    seed  accuracy/val  at step  time   state",
        "1    0.01  1           95.00%       60  1:10    done",
        "0    0.1   0           90.00%       40  0:03    done",
        "3    3     1           50.00%       20  0:01  pruned",
        "2    1     0           99.00%        2  0:00  failed",
        "  step 9: the loss is nan",
    ]


def of_loss(states):
    """The same jobs, compared by their loss."""
    config = {"checkpoint": {"monitor": "loss/val", "mode": "min"}}
    return [replace(state, job=replace(state.job, config=config)) for state in states]


def test_a_loss_is_best_where_it_is_least():
    lines = end_table(of_loss(STATES), "loss/val", "min", 80)
    assert [line[0] for line in lines[1:4]] == ["3", "0", "1"]
    assert "0.95" in lines[3]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_table_is_never_wider_than_the_screen(width):
    long = {f"model__a_long_name_{i}": "a value that is long" for i in range(20)}
    states = [JobState(job(n, **long), "done", 0.5, "", 1, 1.0, 1) for n in range(3)]
    for lines in (end_table(states, "accuracy/val", "max", width),
                  end_table(STATES, "accuracy/val", "max", width)):  # fmt: skip
        assert max(map(len, lines)) <= width
        assert all(line.split()[0] in "job 0 1 2 3 step" for line in lines)
    assert "50.00%" in end_table(states, "accuracy/val", "max", width)[1]


def test_nothing_has_begun_and_nothing_varies():
    assert end_table([], "loss/val", "min", 80) == []
    assert end_table(STATES[4:], "loss/val", "min", 80) == []
    lines = end_table([JobState(job(0), "done", 0.5, "", 1, 1.0, 1)], "accuracy/val", "max", 80)
    assert lines[1].split() == ["0", "50.00%", "1", "0:01", "done"]


def test_what_is_judged_by_another_metric_is_not_among_the_best():
    lines = end_table([STATES[0], *of_loss(STATES[1:2])], "accuracy/val", "max", 80)
    assert [line.split()[0] for line in lines[1:]] == ["0", "1"]
    assert lines[2].split()[3:5] == ["loss/val", "0.95"]


def test_many_jobs_are_counted():
    states = [JobState(job(n, seed=str(n)), "done", n / 100, "", 1, 1.0, 1) for n in range(60)]
    lines = end_table(states, "accuracy/val", "max", 80)
    assert (len(lines), lines[-1]) == (52, "and 10 more")


def test_keys_of_one_last_name_are_told_apart():
    swept = job(0, model__width="8", task__width="9", optimizer__lr="1")
    assert label(swept) == "model.width=8 task.width=9 lr=1"


def test_a_label_is_one_line_that_steers_no_terminal():
    assert label(job(0, a="x\x1b[2J\ny")) == "a=x?[2J?y"


def event(step, **metrics):
    named = {key.replace("__", "/"): value for key, value in metrics.items()}
    return {"step": step, "num_steps": 100, "epoch": step / 10, "split": "val", **named}


@pytest.fixture
def screen():
    shown = Screen(num_jobs=9, num_done=1, slots=2)
    for each in JOBS[:3]:
        shown.started(each, None)
    shown.heard(JOBS[0], event(50, accuracy__val=0.91))
    shown.heard(JOBS[0], event(60, accuracy__val=0.90))
    shown.heard(JOBS[1], event(10, loss__train=1.0))
    shown.ended(JOBS[2], "failed", None)
    shown.num_waiting = 5
    return shown


@pytest.mark.parametrize("width", [10, 40, 80, 200])
def test_what_runs_fits_the_screen(screen, width):
    lines = draw(screen, width, 24)
    assert max(map(len, lines)) <= width
    assert len(lines) == 3


def test_what_runs_and_what_is_known_of_it(screen):
    wide = draw(screen, 120, 24)
    assert wide[0].startswith("  0  lr=0.1 seed=0  ━━━━━━━━━━━━────────   60%  91.00%")
    assert "epoch 6.0" in wide[0]
    assert wide[2].startswith("1 done, 1 failed, 2 running, 5 to go")
    narrow = draw(screen, 40, 24)
    assert "60%" in narrow[0]
    assert "91.00%" in narrow[0]
    screen.ended(JOBS[0], "done", 0.91)
    assert "best 91.00%: job 0 lr=0.1 seed=0" in draw(screen, 120, 24)[-1]


def test_more_jobs_than_lines(screen):
    for number in range(10, 30):
        screen.started(job(number, seed=str(number)), None)
    lines = draw(screen, 80, 8)
    assert len(lines) == 7
    assert lines[-2] == "and 17 more run"


def test_bars_of_a_terminal_that_knows_no_others(screen):
    assert "############........" in draw(screen, 80, 24, ascii_only=True)[0]


def test_of_several_objectives_each_has_a_column_and_the_front_comes_first():
    values = {0: [0.9, 90001.0], 1: [0.95, 90000.0], 3: [0.5, 9000.0]}
    both = [Objective("accuracy/val", "max"), Objective("num_parameters", "min")]
    front = pareto_front(values, both)
    assert front == {1, 3}
    several = Several([each.name for each in both], values, front)
    lines = end_table(STATES, "accuracy/val", "max", 80, several)
    assert lines[0].split()[:5] == ["job", "lr", "seed", "accuracy/val", "num_parameters"]
    assert [line.split()[0] for line in lines[1:5]] == ["1*", "3*", "0", "2"]
    assert lines[1].split()[3:5] == ["95.00%", "90,000"]
    assert lines[-1].startswith("* Pareto front")
    for width in (30, 45, 60):
        narrow = end_table(STATES, "accuracy/val", "max", width, several)
        assert max(map(len, narrow)) <= width
        assert narrow[1].startswith("1*")


def test_equals_are_both_of_the_front():
    both = [Objective("accuracy/val", "max"), Objective("loss/val", "min")]
    values = {1: [0.9, 0.2], 2: [0.9, 0.2], 3: [0.9, 0.3], 4: [0.8, 0.1], 5: [0.8, 0.2]}
    assert pareto_front(values, both) == {1, 2, 4}
