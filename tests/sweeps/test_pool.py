"""Processes of jobs: each begins as the first did, and none is left behind, whatever ends first."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dltrain.errors import DltrainError
from dltrain.sweeps import warm
from dltrain.sweeps.pool import Pool
from dltrain.sweeps.starters import CAN_FORK, Forks, Fresh
from dltrain.sweeps.warm import begun_early, take_starter, wants_jobs

STARTERS = [
    pytest.param(Forks, marks=pytest.mark.skipif(not CAN_FORK, reason="no fork here")),
    Fresh,
]
only_linux = pytest.mark.skipif(not CAN_FORK, reason="no zygote, and no /proc")


def until_ended(pool, keys, on_message=lambda pool, event: None):
    """By key, the messages of each and how it ended."""
    heard, ends = {key: [] for key in keys}, {}
    while len(ends) < len(keys):
        for event in pool.wait(None):
            if event.ended:
                ends[event.key] = event
            else:
                heard[event.key].append(event.message)
                on_message(pool, event)
    return heard, ends


@pytest.mark.parametrize("starter", [STARTERS[0], pytest.param(Fresh, marks=pytest.mark.slow)])
def test_nothing_of_a_job_reaches_the_next(starter):
    with Pool(starter("entries:state", ["torch", "numpy"])) as pool:
        found = []
        for key, change in enumerate([False, True, False]):
            pool.start(key, change=change)
            heard, ends = until_ended(pool, [key])
            assert ends[key].ended.code == 0, ends[key].output
            found += heard[key]
    if starter is Fresh:  # torch's generator begins anywhere in a new process
        for each in found:
            del each["drawn"]
    assert found[0] == found[1] == found[2]
    assert not found[0]["attribute"]
    assert found[0]["had"] is (starter is Forks), "a job of a zygote pays no import"


@only_linux
def test_a_zygote_has_one_thread(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    from dltrain.sweeps.warm import MODULES, NEEDED

    needed = [name for names in NEEDED.values() for name in names]
    starter = Forks("entries:talk", [*MODULES, *NEEDED, *needed])
    with Pool(starter) as pool:
        pool.start(0, count=0, size=0, end=0)
        until_ended(pool, [0])  # it has imported all
        assert len(list(Path(f"/proc/{starter._process.pid}/task").iterdir())) == 1


@pytest.mark.parametrize("starter", STARTERS)
def test_messages_come_whole_and_in_order_before_the_end(starter):
    with Pool(starter("entries:talk", [])) as pool:
        for key in (0, 1):
            pool.start(key, count=50, size=20_000, end=3 + key, pad="y" * 500_000)
        heard, ends = until_ended(pool, [0, 1])
    for key in (0, 1):
        assert [message["number"] for message in heard[key]] == list(range(50))
        assert {len(message["text"]) for message in heard[key]} == {20_000}
        assert ends[key].ended.code == 3 + key
        assert ends[key].output == "said\n"


@only_linux
def test_what_was_not_heard_before_the_end_is_heard_then():
    with Pool(Forks("entries:talk", [])) as pool:
        pool.start(0, count=3, size=1, end=0)
        while not (ended := pool._starter.ended()):  # nobody listens to the channel meanwhile
            pass
        events = pool._last_words(ended[0])
    assert [event.message["number"] for event in events[:-1]] == [0, 1, 2]
    assert events[-1].ended.code == 0


@pytest.mark.parametrize("starter", STARTERS)
def test_a_process_waits_for_its_answer(starter):
    def answer(pool, event):
        if "number" in event.message:
            pool.answer(0, go=event.message["number"])
        else:
            pool._processes[0].channel.socket.shutdown(1)

    with Pool(starter("entries:talk", [])) as pool:
        pool.start(0, count=1, size=1, ask=True, end=0)
        heard, ends = until_ended(pool, [0], answer)
    assert heard[0][-1] == {"heard": {"go": 0}}
    assert ends[0].ended.code == 0


@pytest.mark.parametrize("starter", STARTERS)
def test_how_a_process_ended_is_known(starter):
    with Pool(starter("entries:talk", [])) as pool:
        for key, end in enumerate(["kill", "raise"]):
            pool.start(key, count=0, size=0, end=end)
        _, ends = until_ended(pool, [0, 1])
    assert ends[0].ended.code == -signal.SIGKILL
    assert ends[1].ended.code == 1
    assert ends[1].output.endswith("RuntimeError: in the entry\n")


@pytest.mark.parametrize("starter", STARTERS)
@pytest.mark.parametrize("key", [-1, 2**40])
def test_any_whole_number_names_a_process(starter, key):
    """The one that counts the GPUs has none of the jobs'."""
    with Pool(starter("entries:talk", [])) as pool:
        pool.start(key, count=0, size=0, end=0)
        _, ends = until_ended(pool, [key])
        assert ends[key].ended.code == 0


@pytest.mark.parametrize("starter", STARTERS)
def test_what_still_runs_ends_with_the_pool(starter):
    with Pool(starter("entries:wait", [])) as pool:
        pool.start(0)
        pids = []
        while not pids:
            pids = [pid for event in pool.wait(None) for pid in event.message["pids"]]
    wait_until_gone(pids)


@pytest.mark.parametrize("starter", STARTERS)
def test_what_a_killed_job_has_started_ends_with_it(starter):
    with Pool(starter("entries:wait", [])) as pool:
        pool.start(0)
        pids = []
        while not pids:
            pids = [pid for event in pool.wait(None) for pid in event.message["pids"]]
        os.kill(pids[0], signal.SIGKILL)
        _, ends = until_ended(pool, [0])
        assert ends[0].ended.code == -signal.SIGKILL
        wait_until_gone(pids)


ORPHANS = """
import os, signal, sys
sys.path[:] = {path!r}
from dltrain.sweeps.pool import Pool
from dltrain.sweeps.starters import {name}
pool = Pool({name}("entries:wait", []))
pool.start(0)
pids = []
while not pids:
    pids = [pid for event in pool.wait(None) for pid in event.message["pids"]]
print(*pids[:1], flush=True)
os.kill(pids[1], signal.SIGKILL)  # it is nobody's but the job's own
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("starter", STARTERS)
def test_jobs_die_with_their_parent_even_where_that_was_killed(starter):
    script = ORPHANS.format(path=sys.path, name=starter.__name__)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    wait_until_gone([int(pid) for pid in done.stdout.split()])


def wait_until_gone(pids):
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, "orphans"
        time.sleep(0.01)


def is_running(pid):
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return shown.stdout.strip()[:1] not in ("", "Z")


@only_linux
def test_a_zygote_that_cannot_begin_says_why():
    with Pool(Forks("entries:nothing_of_the_kind", [])) as pool:
        pool.start(0)
        with pytest.raises(DltrainError, match=r"ended with 1\n(.|\n)*nothing_of_the_kind"):
            until_ended(pool, [0])


@only_linux
def test_a_zygote_that_is_killed_takes_its_jobs_with_it():
    starter = Forks("entries:wait", [])
    with Pool(starter) as pool:
        pool.start(0)
        pids = []
        while not pids:
            pids = [pid for event in pool.wait(None) for pid in event.message["pids"]]
        os.kill(starter._process.pid, signal.SIGKILL)
        with pytest.raises(DltrainError, match="was killed by SIGKILL"):
            until_ended(pool, [0])
        wait_until_gone(pids[:1])
        os.kill(pids[1], signal.SIGKILL)


@only_linux
def test_a_module_that_cannot_be_imported_stops_no_other_job():
    with Pool(Forks("entries:talk", ["no_such_module"])) as pool:
        pool.load(["no_such_module_either"])
        pool.start(0, count=0, size=0, end=0)
        _, ends = until_ended(pool, [0])
    assert ends[0].ended.code == 0


@pytest.mark.parametrize("starter", STARTERS)
def test_a_signal_waits_until_a_process_has_handlers(starter):
    with Pool(starter("entries:interrupted", [])) as pool:
        pool.start(0)
        pool.signal(signal.SIGINT)
        _, ends = until_ended(pool, [0])
    assert ends[0].ended.code == 130, ends[0].output


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ("train -m seed=0,1", True),
        ("train --multirun seed=0,1 hydra/launcher=stacked", True),
        ("train seed=0", False),
        ("train -m seed=0,1 --dry-run", False),
        ("train -m seed=0,1 --cfg=job", False),
        ("train -m seed=0,1 hydra/launcher=basic", False),
        ("train -m seed=0,1 --allow-target=mine", False),
        ("compare -m", False),
    ],
)
def test_what_jobs_import_is_begun_early_for_sweeps_alone(argv, wanted):
    assert wants_jobs(argv.split()) is wanted


@only_linux
def test_what_was_begun_early_and_nobody_took_is_ended():
    with begun_early(["train", "-m"]):
        (starter,) = warm._begun
        process = starter._process
        assert process.poll() is None
    assert process.poll() is not None
    assert not warm._begun


def test_what_was_begun_early_is_taken_once():
    with begun_early(["train", "-m"]):
        (starter,) = warm._begun
        with Pool(take_starter()), Pool(take_starter()) as other:
            assert other._starter is not starter
