"""The program as its users meet it: run here, in a process of its own, or in one without torch."""

import contextlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # for what several folders of tests share

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
# A run of a second: real digits, two epochs of 20 steps
SHORT = ("trainer.max_epochs=2", "trainer.threads=1", "model.hidden_sizes=[16]")
# Of a sweep whose jobs are to run in this process, which has imported torch
BASIC = "hydra/launcher=basic"
SERVER = """
import contextlib, io, json, os, sys
from dltrain.cli import run
for line in sys.stdin:
    job = json.loads(line)
    os.chdir(job["cwd"])
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(job["argv"])
    answer = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
    print(json.dumps(answer | {"torch": "torch" in sys.modules}), flush=True)
    if "torch" in sys.modules:
        break
"""


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, both streams, and whether it had to load torch."""

    code: int
    out: str
    err: str
    torch: bool = False


def call(argv, cwd) -> Outcome:
    """`dltrain ARGV` in this process, and everything put back that it sets for a process."""
    here, typed, handlers = Path.cwd(), sys.argv, [signal.getsignal(each) for each in STOPPING]
    propagate, raising = logging.getLogger("dltrain").propagate, logging.raiseExceptions
    out, err = io.StringIO(), io.StringIO()
    from dltrain.cli import run

    os.chdir(cwd)
    sys.argv = ["dltrain", *argv]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(list(argv))
    finally:
        os.chdir(here)
        sys.argv = typed
        logging.getLogger("dltrain").propagate = propagate
        logging.raiseExceptions = raising
        os.environ.pop("HYDRA_FULL_ERROR", None)
        for number, handler in zip(STOPPING, handlers, strict=True):
            signal.signal(number, handler)
    return Outcome(code, out.getvalue(), err.getvalue(), "torch" in sys.modules)


@pytest.fixture(scope="session", autouse=True)
def _no_cache():
    """Nothing is left in the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLTRAIN_CACHE", "off")
        yield


@pytest.fixture(scope="session")
def call_dltrain():
    """A function for fixtures that several tests share: `call_dltrain(argv, folder)`."""
    return call


@pytest.fixture
def dltrain(tmp_path):
    """A function: `dltrain("train", "seed=1")` in this process, below tmp_path."""
    return lambda *argv, cwd=tmp_path: call(argv, cwd)


@pytest.fixture
def start(tmp_path):
    """A function that starts `dltrain ...` as a process of its own; whatever is left is killed."""
    started = []

    def popen(*argv, cwd=tmp_path, env=None, **streams):
        environ = os.environ | {"OMP_NUM_THREADS": "1"} | (env or {})
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
        process = subprocess.Popen(
            [sys.executable, "-m", "dltrain", *argv], cwd=cwd, env=environ, **piped
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def shell(start):
    """A function: `dltrain ...` in a process of its own, waited for."""

    def run(*argv, **options) -> Outcome:
        process = start(*argv, **options)
        out, err = process.communicate(timeout=120)
        texts = [(each or b"").decode(errors="replace") for each in (out, err)]
        return Outcome(process.returncode, *texts)

    return run


@pytest.fixture(scope="session")
def server():
    """A process that runs commands one after another, and starts anew once it holds torch."""
    processes = []

    def new():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", SERVER], **pipes)

    def ask(argv, cwd) -> Outcome:
        if not processes or processes[-1].poll() is not None:
            processes.append(new())
        job = json.dumps({"argv": list(argv), "cwd": str(cwd)})
        processes[-1].stdin.write(job + "\n")
        processes[-1].stdin.flush()
        answer = json.loads(processes[-1].stdout.readline())
        if answer["torch"]:
            processes[-1].wait(timeout=60)
        return Outcome(**answer)

    yield ask
    for process in processes:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


@pytest.fixture
def without_torch(server, tmp_path):
    """A function: `dltrain ...` in a process that has not loaded torch, below tmp_path."""
    return lambda *argv: server(argv, tmp_path)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """The directory of a completed run of two epochs. To be read; copy it to change it."""
    folder = tmp_path_factory.mktemp("finished")
    outcome = call(["train", *SHORT], folder)
    assert outcome.code == 0, outcome.err
    return find_runs(folder)[0]


@pytest.fixture(scope="session")
def finished_sweep(tmp_path_factory):
    """The directory of a sweep of two learning rates with three seeds each, of an epoch. To be
    read."""
    folder = tmp_path_factory.mktemp("sweep")
    short = ("trainer.max_epochs=1", "trainer.threads=1", "model.hidden_sizes=[8]", BASIC)
    outcome = call(["train", "-m", "optimizer.lr=0.001,0.01", "seed=0,1,2", *short], folder)
    assert outcome.code == 0, outcome.err
    return next(folder.glob("outputs/*/*_sweep"))


@pytest.fixture(scope="session")
def three_jobs(tmp_path_factory):
    """The directory of a finished sweep of three jobs of two epochs, and its command."""
    folder = tmp_path_factory.mktemp("three")
    short = ("trainer.max_epochs=2", "trainer.threads=1", "model.hidden_sizes=[8]", BASIC)
    argv = ["train", "-m", "hydra.sweep.dir=here", "optimizer.lr=0.01,0.001,1", *short]
    outcome = call(argv, folder)
    assert outcome.code == 0, outcome.err
    return folder / "here", argv


def find_runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.rglob("run.json"))
