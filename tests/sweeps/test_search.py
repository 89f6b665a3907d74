"""A search goes on as if it had never been stopped, and its journal is data."""

import json
import math
import pickle

import pytest

pytest.importorskip("optuna", minversion="4")

from search_files import ACCURACY, search, space

from dltrain.errors import UserError
from dltrain.plain import PlainError
from dltrain.sweeps.objectives import Objective
from dltrain.sweeps.search import JOURNAL, rewind

LR = "optimizer.lr=tag(log,interval(1e-5,1e-1))"
WIDE = (LR, "model=mlp,cnn", "width=tag(log,int(interval(4,128)))", "depth=range(1,5)")
SAMPLERS = {
    "tpe": {"n_startup_trials": 4},
    "random": {},
    "gp": {"n_startup_trials": 4},
    "qmc": {},
    "nsgaii": {"population_size": 4},
}


def wide():
    return space(*WIDE, when={"depth": "model=mlp"})


def quality(chosen):
    """The nearer lr is to 1e-3 the better, and an mlp of four layers is a little better."""
    lr, depth = float(chosen["optimizer.lr"]), int(chosen.get("depth", 0))
    return 1 - abs(math.log10(lr) + 3) / 4 + depth / 50


def train_all(make, jobs=None, *, every=1000):
    """One trial after another to the end; a new process after `every` of them. `jobs`: those that
    the sweep's ledger has."""
    jobs, trained = list(jobs or ()), 0
    now = make(len(jobs))
    while True:
        if not now.running():
            jobs += now.ask(1)
        if not now.running():
            return jobs
        (number,) = now.running()
        now.tell(number, [quality(jobs[number])])
        trained += 1
        if trained % every == 0:
            now = make(len(jobs))


def maker(folder, sampler, trials):
    """Of a search that goes on in `folder`."""
    settings = {"sampler": sampler, "sampler_args": SAMPLERS[sampler], "trials": trials}
    return lambda recorded: search(folder, wide(), recorded=recorded, **settings)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_is_stopped_after_every_trial_makes_the_same_trials(sampler, tmp_path):
    whole = train_all(maker(tmp_path / "whole", sampler, 10))
    assert len(whole) == 10
    assert len({trial["optimizer.lr"] for trial in whole}) > 4
    assert train_all(maker(tmp_path / "stopped", sampler, 10), every=1) == whole


def test_another_seed_makes_other_trials(tmp_path):
    found = [search(tmp_path / str(seed), wide(), seed=seed).ask(2) for seed in (0, 1)]
    assert found[0] != found[1]


@pytest.mark.parametrize("sampler", ["tpe", "qmc", "nsgaii"])
def test_killed_after_any_line_or_within_one_it_makes_the_same_trials(sampler, tmp_path):
    whole = train_all(maker(tmp_path / "whole", sampler, 6))
    lines = (tmp_path / "whole" / JOURNAL).read_bytes().splitlines(keepends=True)
    assert len(lines) > 25
    for index, line in enumerate(lines):
        before = b"".join(lines[:index])
        begun, ended = before.count(b'"op_code":4,'), before.count(b'"op_code":6,')
        is_drawn = b'"op_code":6,' in line  # and its job may have been recorded
        for recorded in {ended, begun} if is_drawn else {ended}:
            folder = tmp_path / f"{index}_{recorded}"
            folder.mkdir()
            (folder / JOURNAL).write_bytes(before + line[: len(line) // 2])
            assert train_all(maker(folder, sampler, 6), whole[:recorded]) == whole


def test_several_at_once_differ_and_the_total_is_kept(tmp_path):
    now = search(tmp_path, wide(), trials=7)
    numbers = []
    while batch := now.ask(3):
        first = len(numbers)
        assert len({tuple(trial.values()) for trial in batch}) == len(batch)
        for number, trial in enumerate(batch, first):
            now.tell(number, [quality(trial)])
            numbers.append(number)
    assert numbers == list(range(7))
    assert now.running() == []


def test_tpe_finds_what_random_does_not(tmp_path):
    def best(sampler):
        now = search(tmp_path / sampler, space(LR), sampler=sampler, trials=30)
        return max(map(quality, train_all(lambda recorded: now)))

    assert best("tpe") > max(0.99, best("random"))


def test_a_parameter_with_a_condition_is_there_only_where_it_holds(tmp_path):
    trials = train_all(maker(tmp_path, "tpe", 20))
    assert {("depth" in t, t["model"]) for t in trials} == {(True, "mlp"), (False, "cnn")}
    drawn = search(tmp_path, wide(), recorded=20, trials=20).trials()
    assert [set(each.params) for each in drawn] == [set(each) for each in trials]


def test_a_condition_on_what_is_not_searched(tmp_path):
    made = space(LR, "depth=1,2", "width=1,2", when={"depth": "model=cnn", "width": "model=mlp"})
    assert all(trial.keys() == {"optimizer.lr", "depth"} for trial in search(tmp_path, made).ask(3))


def test_what_is_paired_is_drawn_together(tmp_path):
    made = space("lr=0.1,0.2,0.3", "batch=1,2,3", pairs=["lr", "batch"])
    drawn = {tuple(trial.values()) for trial in search(tmp_path, made).ask(12)}
    assert drawn == {("0.1", "1"), ("0.2", "2"), ("0.3", "3")}


def test_every_point_of_a_grid_once(tmp_path):
    parameters = space("a=1,2,3", "b=range(0,1,0.5)", "c=x,y")
    now = search(tmp_path, parameters, sampler="grid", trials=100)
    points = []
    while batch := now.ask(1):
        points.append(tuple(batch[0].values()))
        now.tell(len(points) - 1, [1.0])
    assert len(points) == len(set(points)) == 12


# ---------------------------------------------------------------------- what becomes of a trial


def test_failed_pruned_and_not_finite_trials_count_and_are_told_once(tmp_path):
    now = search(tmp_path, space(LR), pruner="median")
    now.ask(4)
    now.report(1, 1, 0.25)
    now.tell(0, None)
    now.tell_pruned(1)
    now.tell(2, None)
    now.tell(3, [0.5])
    now.tell(3, None)
    again = search(tmp_path, space(LR), pruner="median", recorded=4)
    states = [trial.state.name for trial in again.trials()]
    assert states == ["FAIL", "PRUNED", "FAIL", "COMPLETE"]
    assert again.trials()[1].value == 0.25
    assert again.running() == []


def median_stops(curves, startup):
    """What the median rule says, worked out by itself: evaluation -> of a run that is stopped."""
    done, stops = [], []
    for curve in curves:
        stop = None
        for index, _ in enumerate(curve):
            others = sorted(other[index] for other in done if len(other) > index)
            if len(done) < startup or not others:
                continue
            middle = len(others) // 2
            median = others[middle] if len(others) % 2 else sum(others[middle - 1 : middle + 1]) / 2
            if max(curve[: index + 1]) < median:
                stop = index + 1
                break
        stops.append(stop)
        if stop is None:
            done.append(curve)
    return stops


CURVES = [[q * e / (e + 3) for e in range(1, 9)] for q in (0.5, 0.9, 0.7, 0.3, 0.8, 0.95, 0.6, 1.0)]


@pytest.mark.parametrize("restarts", [False, True])
def test_the_median_pruner_stops_what_a_reference_stops(restarts, tmp_path):
    def make(recorded):
        args = {"n_startup_trials": 2}
        return search(tmp_path, space(LR), pruner="median", pruner_args=args, recorded=recorded)

    now, stops = make(0), []
    for number, curve in enumerate(CURVES):
        now.ask(1)
        stop = None
        for index, value in enumerate(curve, 1):
            now = make(number + 1) if restarts else now
            if now.report(number, index, value):
                stop = index
                break
        now.tell_pruned(number) if stop else now.tell(number, [max(curve)])
        stops.append(stop)
    assert stops == median_stops(CURVES, 2)
    assert any(stops)


@pytest.mark.parametrize("pruner", ["percentile", "successive_halving", "hyperband"])
def test_the_other_pruners_stop_the_worst_and_not_the_best(pruner, tmp_path):
    now = search(tmp_path, space(LR), pruner=pruner, trials=60)
    curves = [[q / 60 * e / (e + 3) for e in range(1, 28)] for q in (*range(20, 60), *range(20))]
    stopped = []
    for number, curve in enumerate(curves):
        now.ask(1)
        stop = any(now.report(number, index, value) for index, value in enumerate(curve, 1))
        now.tell_pruned(number) if stop else now.tell(number, [max(curve)])
        stopped.append(stop)
    assert sum(stopped) > 10
    assert not stopped[39]
    assert all(stopped[-10:])


def test_an_evaluation_is_reported_once(tmp_path):
    now = search(tmp_path, space(LR), pruner="median")
    now.ask(1)
    assert not now.report(0, 1, 0.5)
    assert not now.report(0, 1, 0.9)
    assert not now.report(0, 2, None)
    values = now.trials()[0].intermediate_values
    assert values[1] == 0.5
    assert math.isnan(values[2])


def test_several_objectives(tmp_path):
    objectives = [*ACCURACY, Objective("num_parameters", "min")]
    now = search(tmp_path, space(LR), objectives, sampler="nsgaii")
    for number, values in enumerate([(0.5, 10), (0.9, 20), (0.4, 30), (0.7, 15)]):
        now.ask(1)
        now.tell(number, values)
    assert [trial.number for trial in now.study.best_trials] == [0, 1, 3]
    with pytest.raises(UserError, match=r"sweep\.optuna\.pruner is median"):
        search(tmp_path / "pruned", space(LR), objectives, pruner="median")
    with pytest.raises(UserError, match="has other objectives"):
        search(tmp_path, space(LR), recorded=4)


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler_args": {"n_startup": 3}}, r"sweep\.optuna\.sampler_args\.n_startup: the sampler "
         "tpe has no such argument; did you mean `n_startup_trials`"),
        ({"sampler_args": {"seed": 3}}, r"sampler_args\.seed: .* no such argument"),
        ({"sampler": "random", "sampler_args": {"x": 1}}, "has no such argument; none"),
        ({"pruner": "percentile", "pruner_args": {"percentile": 200}}, r"optuna\.pruner_args"),
        ({"pruner": "median", "pruner_args": {"n_min_trials": 0}}, "does not take this"),
        ({"sampler": "qmc", "sampler_args": {"qmc_type": "x"}}, "does not take this"),
        ({"sampler": "nsgaii", "sampler_args": {"population_size": 1}}, "does not take this"),
        ({"sampler": "nsgaii", "sampler_args": {"crossover_prob": math.inf}}, "must be finite"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_named(settings, message, tmp_path):
    with pytest.raises(UserError, match=message):
        search(tmp_path, space(LR), **settings)
    assert not (tmp_path / JOURNAL).exists()


def test_another_space_in_the_same_journal_is_named(tmp_path):
    search(tmp_path, space("a=1,2")).ask(1)
    with pytest.raises(UserError, match="cannot draw trial 1"):
        search(tmp_path, space("a=1,2,3"), recorded=1).ask(1)


# ---------------------------------------------------------------------- a journal of somebody else


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a stranger')",))


def test_a_pickle_in_a_journal_is_never_loaded(tmp_path):
    """Optuna's CMA-ES keeps one there; it is not offered, and nothing else looks at it."""
    now = search(tmp_path, space(LR))
    now.ask(1)
    payload = pickle.dumps(Bomb()).hex()
    line = {
        "op_code": 9,
        "worker_id": "x",
        "trial_id": 0,
        "system_attr": {"cma:optimizer:0": payload},
    }
    with open(tmp_path / JOURNAL, "a") as file:
        file.write(json.dumps(line) + "\n")
    now.tell(0, [1.0])
    for number, (sampler, args) in enumerate(SAMPLERS.items(), 1):
        settings = {"sampler": sampler, "sampler_args": args, "recorded": number}
        other = search(tmp_path, space(LR), **settings)
        assert len(other.ask(1)) == 1
        other.tell(number, [1.0])
    assert payload in (tmp_path / JOURNAL).read_text()


GOOD = '{"op_code":0,"worker_id":"x","study_name":"dltrain","directions":[2]}\n'


@pytest.mark.parametrize(
    "content",
    [
        "garbage\n\n",
        "[]\n",
        '{"op_code":77}\n',
        '{"op_code":0,"worker_id":"x","study_name":"dltrain","directions":[9]}\n',
        GOOD.replace("dltrain", "another"),
        GOOD + GOOD.replace("dltrain", "another"),
        GOOD + '{"op_code":4,"worker_id":"x","study_id":0}\n',
        GOOD + '{"op_code":4,"worker_id":"x","study_id":0,"datetime_start":null,"state":44}\n',
        GOOD + '{"op_code":4,"worker_id":"x","study_id":0,"datetime_start":null,'
        '"distributions":{"a":"{}"}}\n',
        "[" * 100_000 + "\n",
        "\0" * 10_000 + "\n",
    ],
)  # fmt: skip
def test_a_journal_that_is_not_ours_is_refused_in_a_sentence(content, tmp_path):
    (tmp_path / JOURNAL).write_text(content)
    with pytest.raises(UserError, match=JOURNAL):
        search(tmp_path, space(LR), recorded=1)


def test_a_journal_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text(GOOD)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / JOURNAL).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="it is a link"):
        search(tmp_path / "sweep", space(LR))
    assert (tmp_path / "elsewhere").read_text() == GOOD


def test_a_journal_without_end_is_not_read(tmp_path):
    with open(tmp_path / JOURNAL, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UserError, match="more than"):
        search(tmp_path, space(LR))


def test_a_journal_may_be_as_long_as_its_trials_make_it(tmp_path, monkeypatch):
    monkeypatch.setattr("dltrain.sweeps.search.MAX_JOURNAL", 100)
    monkeypatch.setattr("dltrain.sweeps.search.MAX_TRIAL", 100)
    path = tmp_path / "optuna.jsonl"
    path.write_bytes(b'{"op_code":6}\n' * 20)
    rewind(path, 2)
    assert path.stat().st_size == 280
    with pytest.raises(PlainError, match="it has more than 200 bytes"):
        rewind(path, 1)
