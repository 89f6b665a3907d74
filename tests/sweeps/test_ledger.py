"""What is read of a ledger, whoever wrote it and whatever a kill or a power cut has left of it."""

import json
import os

import pytest

from dltrain.errors import UserError
from dltrain.sweeps import ledger_lines
from dltrain.sweeps.halving import Decisions, best_of, rungs_of
from dltrain.sweeps.ledger import JobRecord, Ledger, read_ledger

CONFIG = {
    "checkpoint": {"monitor": "accuracy/val", "mode": "max"},
    "trainer": {"device": "auto", "threads": "auto"},
}


def job(number=0, **changes):
    record = JobRecord(number, [], {"seed": "1"}, f"{number}_a", CONFIG, {"model": "mlp"}, {})
    return JobRecord(**{**vars(record), **changes})


@pytest.fixture
def two(tmp_path):
    """The ledger of a sweep of two jobs, of which one has begun."""
    found = Ledger(tmp_path)
    found.begin({"command": "dltrain train -m"}, [job(), job(1)])
    found.note(0, "running")
    return found


def lines_of(folder):
    return (folder / "jobs.jsonl").read_bytes().splitlines(keepends=True)


def add_event(ledger):
    ledger.note(0, "failed", reason='a {torn} "line", it was')


def add_jobs(ledger):
    ledger.add([job(2, overrides=["a=1"])])


@pytest.mark.parametrize("write", [add_event, add_jobs])
@pytest.mark.parametrize("rest", [b"", b"\0" * 30, b"\xff\0x"], ids=["kill", "zeros", "power"])
def test_whatever_is_left_of_a_last_line_the_ledger_goes_on(write, rest, two, tmp_path):
    path = tmp_path / "jobs.jsonl"
    before = path.read_bytes()
    write(two)
    line = path.read_bytes()[len(before) :]
    last = len(line) - 1
    for cut in [*range(30), *range(30, last, 1 if not rest and len(line) < 200 else 15), last]:
        path.write_bytes(before + line[:cut] + rest)
        found = read_ledger(tmp_path)
        whole = cut == last and not rest  # only its end is missing
        assert (len(found.jobs), len(found.events[0])) == (2, 1) or whole
        found.note(1, "running")
        again = read_ledger(tmp_path)
        assert [event["state"] for event in again.events[1]] == ["running"]
        assert len(lines_of(tmp_path)) == 4 + whole


@pytest.mark.parametrize("torn", [b'{"n', b'{"number": 0, "sta', b"\0" * 40, b'{"jo\0\0', b""])
def test_a_torn_line_that_has_got_an_end_is_left_out(torn, two, tmp_path):
    *first, last = lines_of(tmp_path)
    (tmp_path / "jobs.jsonl").write_bytes(b"".join([*first, torn, b"\n", last]))
    assert len(read_ledger(tmp_path).events[0]) == 1


def test_any_other_line_that_cannot_be_read_is_refused(two, tmp_path):
    *first, last = lines_of(tmp_path)
    (tmp_path / "jobs.jsonl").write_bytes(b"".join([*first, b"x\n", last]))
    with pytest.raises(UserError, match="line 3 is damaged"):
        read_ledger(tmp_path)


# ---------------------------------------------------------------------- what a stranger wrote


def write_line(folder, data):
    with (folder / "jobs.jsonl").open("a") as file:
        file.write(json.dumps(data) + "\n")


@pytest.mark.parametrize(
    "changes",
    [
        {"directory": "a\x1b[31mred"}, {"directory": "a\nb"}, {"directory": "a\0b"},
        {"directory": "\ud800"}, {"directory": "x" * 300}, {"directory": "ä" * 128},
        {"directory": ".."}, {"directory": "a/"}, {"directory": "../a"}, {"directory": ""},
        {"hydra_files": {"..": "a"}}, {"hydra_files": {"": "a"}}, {"hydra_files": {"x" * 300: ""}},
        {"hydra_files": {"../x": "a"}}, {"choices": {"model": {"a": 1}}},
        {"config": {}}, {"config": CONFIG | {"checkpoint": {"mode": "max"}}},
        {"config": CONFIG | {"checkpoint": {"monitor": ["a"], "mode": "max"}}},
        {"config": CONFIG | {"checkpoint": {"monitor": "a", "mode": 3}}},
        {"config": CONFIG | {"trainer": {"device": 1, "threads": "auto"}}},
        {"config": CONFIG | {"trainer": {"device": "cpu"}}}, {"config": CONFIG | {"trainer": "x"}},
    ],
)  # fmt: skip
def test_a_job_that_no_sweep_writes_is_refused(changes, two, tmp_path):
    write_line(tmp_path, {"job": vars(job(2)) | changes})
    with pytest.raises(UserError, match=r"no folder of a job|not the record of a job"):
        read_ledger(tmp_path)


def test_two_jobs_do_not_share_a_directory(two, tmp_path):
    write_line(tmp_path, {"job": vars(job(2, directory="1_a"))})
    with pytest.raises(UserError, match="two jobs have the same directory"):
        read_ledger(tmp_path)


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [([[]] * 40_000, "30,000 values"), (dict.fromkeys(map(str, range(40_000))), "30,000 values"),
     (deep(100), "64 deep")],
)  # fmt: skip
def test_a_line_of_more_than_a_config_has_is_refused(value, message, two, tmp_path):
    write_line(tmp_path, {"job": vars(job(2)) | {"config": CONFIG | {"dataset": value}}})
    with pytest.raises(UserError, match=f"line 4: .*more than {message}"):
        read_ledger(tmp_path)


def test_values_are_counted_and_not_what_texts_hold(two, tmp_path):
    text = '[{,\\"' * 20_000
    write_line(tmp_path, {"job": vars(job(2)) | {"overrides": [text]}})
    assert read_ledger(tmp_path).jobs[2].overrides == [text]


def test_of_events_the_newest_and_what_is_known_of_them_is_kept(two, tmp_path):
    for number in range(ledger_lines.MAX_EVENTS + 10):
        write_line(tmp_path, {"number": 1, "state": "running", "time": number, "id": [[], []],
                              "x": [[]] * 1000, "reason": "r" * 10_000})  # fmt: skip
    events = read_ledger(tmp_path).events[1]
    assert len(events) == ledger_lines.MAX_EVENTS
    assert events[-1] == {"number": 1, "state": "running", "time": ledger_lines.MAX_EVENTS + 9,
                          "reason": "r" * ledger_lines.MAX_REASON}  # fmt: skip


# ---------------------------------------------------------------------- what we write we read


def test_what_could_not_be_read_again_is_not_written(two, tmp_path, monkeypatch):
    before = (tmp_path / "jobs.jsonl").read_bytes()
    with pytest.raises(UserError, match="job 2 takes too many values to record, and may take 30,"):
        two.add([job(2, config=CONFIG | {"dataset": [0] * 40_000})])
    with pytest.raises(UserError, match=r"job 2 takes 5,000,\d+ bytes to record"):
        two.add([job(2, hydra_files={"hydra.yaml": "x" * 5_000_000})])
    monkeypatch.setattr(ledger_lines, "MAX_RECORDED_BYTES", len(before) + 10)
    with pytest.raises(UserError, match="take fewer jobs, in several sweeps"):
        two.add([job(2)])
    assert (tmp_path / "jobs.jsonl").read_bytes() == before


def test_a_sweep_of_which_too_much_is_asked_has_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr("dltrain.sweeps.ledger.MAX_ASKED_BYTES", 2000)
    with pytest.raises(UserError, match="make the lists of the `sweep` node shorter"):
        Ledger(tmp_path).begin({"settings": {"list": ["x"] * 1000}}, [job()])
    assert not any(tmp_path.iterdir())


def test_a_long_list_of_settings_is_read_again(tmp_path):
    settings = {"list": [{"optimizer.lr": 0.1, "seed": n} for n in range(20_000)]}
    Ledger(tmp_path).begin({"settings": settings}, [job()])
    assert os.path.getsize(tmp_path / "sweep.json") > 1 << 20
    assert read_ledger(tmp_path).asked["settings"] == settings


def test_the_decisions_of_very_many_jobs_are_read_again(tmp_path):
    jobs, made = list(range(30_000)), []
    rungs = rungs_of(len(jobs), "1 epoch", 2)
    decisions = Decisions(tmp_path, rungs, jobs)
    for rung in rungs[:3]:
        values = {number: 1 / (3 + number) for number in jobs}
        jobs = best_of(values, rung.keep, "max")
        shown = {str(number): value for number, value in values.items()}
        made.append({"after": rung.text, "values": shown, "go_on": jobs})
    decisions.made = made[:2]
    decisions.add(rungs[2], {int(k): v for k, v in made[2]["values"].items()}, jobs)
    assert os.path.getsize(tmp_path / "halving.json") > 1 << 20
    assert Decisions(tmp_path, rungs, list(range(30_000))).made == made
