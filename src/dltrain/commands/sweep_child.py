"""A job of a sweep in a process of its own: what it is told, and what it tells of itself."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dltrain import cores
from dltrain.commands.signals import SIGNALS, STOPPING
from dltrain.commands.sweep_job import run_recorded
from dltrain.sweeps.channel import Channel
from dltrain.sweeps.ledger import JobRecord

ENTRY = f"{__name__}:main"
SECONDS_BETWEEN_ROWS = 0.2  # of training: the screen shows no more


def main(sock: socket.socket) -> int:
    """Runs the job that the first message says; the last one that it sends is the outcome."""
    SIGNALS.take()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # held back since the fork
    channel = Channel(sock)
    message = channel.receive()
    if message is None:
        return 1
    if "count_gpus" in message:
        import torch

        return int(not channel.send(gpus=torch.cuda.device_count()))
    prepare(message)
    outcome = run_recorded(
        Path(message["folder"]),
        JobRecord(**message["job"]),
        message["allowed"],
        SIGNALS,
        observe=observer(channel, judged=message["judged"]),
        stop_at=message["stop_at"],
    )
    channel.send(outcome=outcome._asdict())
    return outcome.exit_code


def prepare(message: dict[str, Any]) -> None:
    """What the process may use, before it uses anything."""
    if message["gpu"] is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = message["gpu"]  # read when CUDA starts
    import torch

    cores.take_share(message["share"])
    torch.set_num_threads(min(torch.get_num_threads(), cores.available()))
    sys.argv = message["argv"]  # for run.json


def observer(channel: Channel, *, judged: bool) -> Callable[[dict[str, Any]], str | None]:
    """Tells the parent of rows; after an evaluation waits for its judgement, if it judges."""
    told = -SECONDS_BETWEEN_ROWS

    def observe(event: dict[str, Any]) -> str | None:
        nonlocal told
        now, waits = time.monotonic(), judged and event["split"] == "val"
        if event["split"] == "train" and now - told < SECONDS_BETWEEN_ROWS:
            return None
        told = now
        channel.send(event=event, waits=waits)
        answer = channel.receive() if waits else None
        return answer["stop"] if answer else None

    return observe
