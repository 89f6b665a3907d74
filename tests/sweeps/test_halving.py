"""Successive halving stops exactly the jobs that the paper's algorithm stops, killed or not."""

import json
import math
import random

import pytest

from dltrain.errors import UserError
from dltrain.sweeps.evaluations import Evaluation, read_evaluations
from dltrain.sweeps.halving import RECORD, Decisions, Rung, best_of, halve, rungs_of

LENGTH = 40  # epochs of a whole run
STEPS = 7  # an epoch


class KilledError(Exception):
    pass


class Jobs:
    """Jobs with known curves, which leave the files of runs; some fail, some are never finite."""

    def __init__(self, folder, curves, fails_at, *, eval_every=1):
        self.folder, self.curves, self.fails_at = folder, curves, fails_at
        self.eval_every = eval_every
        self.trained = dict.fromkeys(curves, 0)
        self.left_until_kill, self.dropped = math.inf, set()
        for job in curves:
            (folder / str(job)).mkdir(parents=True)

    def epoch(self, job):
        """One more epoch of a job."""
        if self.left_until_kill <= 0:
            raise KilledError
        self.left_until_kill -= 1
        self.trained[job] += 1
        epoch = self.trained[job]
        value = self.curves[job][epoch - 1]
        row = {"step": epoch * STEPS, "epoch": epoch, "split": "val", "time": 0.0, "loss": 1.0}
        row["accuracy"] = value if math.isfinite(value) else None
        if epoch % self.eval_every == 0:
            with open(self.folder / str(job) / "metrics.jsonl", "a") as file:
                file.write(json.dumps(row) + "\n")

    def failed(self, job):
        return self.trained[job] >= self.fails_at.get(job, math.inf)

    def advance(self, jobs, rung):
        for job in jobs:
            end = LENGTH if rung is None else rung.length
            while self.trained[job] < min(end, LENGTH) and not self.failed(job):
                self.epoch(job)
        return True

    def drop(self, jobs, rung):
        self.dropped |= set(jobs)

    def value_at(self, job, rung):
        if self.failed(job):
            return None
        return rung.value(read_evaluations(self.folder / str(job), "accuracy/val"), "max")


def random_jobs(draw, folder, count):
    curves = {}
    for job in range(count):
        top, speed = draw.random(), draw.uniform(0.02, 0.5)
        curve = [
            round(top * (1 - math.exp(-speed * e)) + draw.gauss(0, 0.05), 1) for e in range(LENGTH)
        ]  # one digit: many are equal
        if draw.random() < 0.1:
            curve = [math.nan] * LENGTH
        curves[job] = curve
    fails_at = {job: draw.randrange(1, LENGTH) for job in curves if draw.random() < 0.15}
    return Jobs(folder, curves, fails_at)


def reference(jobs, first, eta):
    """Epochs that each job trains: of whole curves, without files, rungs or numbers of rungs."""
    alive, length, trained = sorted(jobs.curves), first, {}
    while len(alive) > 1:
        scores = {}
        for job in alive:
            trained[job] = min(length, LENGTH, jobs.fails_at.get(job, LENGTH))
            finite = [v for v in jobs.curves[job][:length] if not math.isnan(v)]
            if finite and jobs.fails_at.get(job, math.inf) > trained[job]:
                scores[job] = max(finite)
        wanted = max(len(alive) // eta, 1)
        alive = sorted(scores, key=lambda job: (-scores[job], job))[:wanted]
        length *= eta
    for job in alive:
        trained[job] = min(LENGTH, jobs.fails_at.get(job, LENGTH))
    return trained


def run_halving(jobs, first, eta, kills=()):
    """From the start as often as it is killed; a new process knows only the files."""
    numbers = sorted(jobs.curves)
    for kill in (*kills, math.inf):
        jobs.left_until_kill = kill
        decisions = Decisions(jobs.folder, rungs_of(len(numbers), f"{first} epochs", eta), numbers)
        try:
            return halve(
                numbers,
                decisions,
                advance=jobs.advance,
                value_at=jobs.value_at,
                drop=jobs.drop,
                mode="max",
            )
        except KilledError:
            continue
    raise AssertionError


@pytest.mark.parametrize("seed", range(40))
def test_the_jobs_that_a_reference_stops_are_stopped(seed, tmp_path):
    draw = random.Random(seed)
    count, first, eta = draw.randint(1, 30), draw.randint(1, 4), draw.randint(2, 4)
    jobs = random_jobs(draw, tmp_path, count)
    last = run_halving(jobs, first, eta)
    assert jobs.trained == reference(jobs, first, eta)
    assert jobs.dropped == set(jobs.curves) - set(last)
    assert len(last) <= 1


@pytest.mark.parametrize("seed", range(40))
def test_killed_at_any_moment_the_same_jobs_are_stopped(seed, tmp_path):
    draw = random.Random(seed)
    count, first, eta = draw.randint(2, 30), draw.randint(1, 4), draw.randint(2, 4)
    jobs = random_jobs(draw, tmp_path, count)
    run_halving(jobs, first, eta, kills=[draw.randrange(0, 30) for _ in range(8)])
    assert jobs.trained == reference(jobs, first, eta)


def test_a_run_that_somebody_trained_for_longer_is_compared_by_its_beginning(tmp_path):
    jobs = Jobs(tmp_path, {0: [0.5] * LENGTH, 1: [0.4] + [0.9] * (LENGTH - 1)}, {})
    jobs.advance([1], None)
    assert run_halving(jobs, 1, 2) == [0]


def test_the_winner_goes_to_its_end_at_once(tmp_path):
    jobs = Jobs(tmp_path, {job: [job / 10] * LENGTH for job in range(9)}, {})
    assert run_halving(jobs, 1, 3) == [8]
    assert sorted(jobs.trained.values()) == [1] * 6 + [3] * 2 + [LENGTH]


@pytest.mark.parametrize(
    ("count", "first", "eta", "expected"),
    [
        (1, "1 epoch", 3, []),
        (2, "1 epoch", 3, [("1 epoch", 1)]),
        (16, "1 epoch", 3, [("1 epoch", 5), ("3 epochs", 1)]),
        (27, "100 steps", 3, [("100 steps", 9), ("300 steps", 3), ("900 steps", 1)]),
        (8, "2epochs", 2, [("2 epochs", 4), ("4 epochs", 2), ("8 epochs", 1)]),
    ],
)
def test_rungs(count, first, eta, expected):
    assert [(rung.text, rung.keep) for rung in rungs_of(count, first, eta)] == expected


def test_of_equals_the_first_goes_on_and_what_is_not_finite_never():
    values = {4: 0.5, 0: None, 2: 0.7, 3: 0.5, 1: 0.5}
    assert best_of(values, 3, "max") == [1, 2, 3]
    assert best_of(values, 1, "min") == [1]
    assert best_of(values, 5, "max") == [1, 2, 3, 4]


def test_a_loss_that_is_not_finite_makes_an_accuracy_worthless(tmp_path):
    row = {"step": 1, "epoch": 0, "split": "val", "time": 1.0, "accuracy": 0.9, "loss": None}
    good = row | {"step": 2, "accuracy": 0.1, "loss": 2.0}
    text = f'{json.dumps(row)}\n[1]\n\n{json.dumps(good)}\n{{"step": 3, "spl'
    (tmp_path / "metrics.jsonl").write_text(text)
    assert read_evaluations(tmp_path, "accuracy/val") == [(1, 0, None), (2, 0, 0.1)]
    assert read_evaluations(tmp_path, "loss/val") == [(1, 0, None), (2, 0, 2.0)]
    assert read_evaluations(tmp_path / "nowhere", "loss/val") == []


def test_a_run_of_more_rows_than_are_read_is_said(tmp_path, monkeypatch):
    """Else what is behind them would be missed, and nobody would know."""
    row = {"step": 1, "epoch": 0, "split": "val", "time": 1.0, "loss": 0.9}
    rows = [json.dumps(row | {"step": step}) for step in range(1, 9)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    assert len(read_evaluations(tmp_path, "loss/val")) == 8
    monkeypatch.setattr("dltrain.runs.MAX_ROWS", 7)
    with pytest.raises(UserError, match="has more than 7 rows"):
        read_evaluations(tmp_path, "loss/val")


def test_a_curve_between_two_rungs_belongs_to_the_first_evaluation_behind():
    curve = [Evaluation(5, 0, 0.1), Evaluation(10, 1, 0.3), Evaluation(15, 2, 0.2)]
    assert Rung(7, "steps", 1).value(curve, "max") == 0.3
    assert not Rung(16, "steps", 1).reached(curve)
    assert Rung(2, "epochs", 1).reached(curve)
    assert Rung(2, "epochs", 1).value(curve, "min") == 0.1


@pytest.mark.parametrize(
    "content",
    [
        '{"rungs": [{"after": "1 epoch", "values": {"0": 1, "1": 2}, "go_on": ["../x"]}]}',
        '{"rungs": [{"after": "2 epochs", "values": {"0": 1, "1": 2}, "go_on": [0]}]}',
        '{"rungs": [{"after": "1 epoch", "values": {"0": 1}, "go_on": [0]}]}',
        '{"rungs": [{"after": "1 epoch", "values": {"0": 1, "1": 2}, "go_on": [7]}]}',
        '{"rungs": [3]}',
        "{",
    ],
)
def test_a_record_that_is_not_ours_is_refused(content, tmp_path):
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(UserError, match=RECORD):
        Decisions(tmp_path, rungs_of(2, "1 epoch", 3), [0, 1])
