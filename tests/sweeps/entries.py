"""What the processes of these tests do: each is given a channel, and gives its exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dltrain.sweeps.channel import Channel


def state(sock):
    """Tells what a job finds; with `change` leaves nothing of it as it was."""
    channel = Channel(sock)
    message = channel.receive()
    had = "torch" in sys.modules
    import numpy
    import torch

    channel.send(
        had=had,
        dtype=str(torch.get_default_dtype()),
        threads=torch.get_num_threads(),
        drawn=torch.rand(()).item(),
        env=os.environ.get("DLTRAIN_TEST"),
        here=os.getcwd(),
        attribute=hasattr(torch.nn.Linear, "spoiled"),
        path=sys.path[-1],
        handled=str(signal.getsignal(signal.SIGUSR1)),
        limit=numpy.get_printoptions()["precision"],
    )
    if message["change"]:
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(7)
        torch.set_num_threads(3)
        os.environ["DLTRAIN_TEST"] = "spoiled"
        os.chdir("/")
        torch.nn.Linear.spoiled = True
        sys.path.append("/spoiled")
        signal.signal(signal.SIGUSR1, lambda *_: None)
        numpy.set_printoptions(precision=3)
    return 0


def talk(sock):
    """Says all kinds of things, in order, and ends as it is told."""
    channel = Channel(sock)
    message = channel.receive()
    print("said to nobody", flush=True)
    print("said", file=sys.stderr)
    for number in range(message["count"]):
        channel.send(number=number, text="x" * message["size"])
    while message.get("ask") and (answer := channel.receive()):
        channel.send(heard=answer)
    if message["end"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if message["end"] == "raise":
        raise RuntimeError("in the entry")
    return message["end"]


def evaluates(sock):
    """A job that is evaluated once, and waits for its judgement."""
    channel = Channel(sock)
    (job,) = channel.receive()["jobs"]
    row = {"step": 20, "num_steps": 40, "epoch": 1, "split": "val", "accuracy/val": 0.5}
    channel.send(number=job["number"], event=row, waits=True)
    channel.receive()
    return 0


def two_gpus(sock):
    """What is asked how many there are."""
    channel = Channel(sock)
    assert channel.receive() == {"count_gpus": True}
    channel.send(gpus=2)
    return 0


def wait(sock):
    """Starts a process of its own, says both numbers, and waits for ever."""
    channel = Channel(sock)
    channel.receive()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    channel.send(pids=[os.getpid(), child.pid])
    while True:
        time.sleep(1000)


def warm(sock):
    """A job of a sweep; leaves a list of what it had to import."""
    from dltrain.commands import sweep_child

    before = set(sys.modules)
    code = sweep_child.main(sock)
    Path("imported.json").write_text(json.dumps(sorted(set(sys.modules) - before)))
    return code


def interrupted(sock):
    """Takes its time before it has handlers, as imports do, and ends as they say."""
    time.sleep(0.3)
    found = []
    signal.signal(signal.SIGINT, lambda *_: found.append(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    Channel(sock).receive()
    return found[0]
