"""Jobs of a sweep in a process of their own: what it is told, and what it tells of them."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from dltrain import cores
from dltrain.commands.signals import SIGNALS, STOPPING
from dltrain.commands.sweep_job import Observe, run_recorded
from dltrain.sweeps.channel import Channel
from dltrain.sweeps.ledger import JobRecord

SECONDS_BETWEEN_ROWS = 0.2  # of training: the screen shows no more


def main(sock: socket.socket) -> int:
    """Runs the jobs that the first message names; the last word on each is its outcome."""
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
    teller = Teller(channel, judged=message["judged"])
    folder, allowed = Path(message["folder"]), message["allowed"]
    jobs = [JobRecord(**job) for job in message["jobs"]]
    if message["together"]:
        from dltrain.commands.stack_group import Group

        group = Group(folder, jobs, allowed, teller, stop_at=message["stop_at"])
        return group.run(message["neighbours"])
    (job,) = jobs
    observe, stop_at = teller.observer(job), message["stop_at"]
    outcome = run_recorded(folder, job, allowed, SIGNALS, observe=observe, stop_at=stop_at)
    teller.tell(job, outcome=outcome._asdict())
    return outcome.exit_code


def prepare(message: dict[str, Any]) -> None:
    """What the process may use, before it uses anything."""
    if message["gpu"] is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = message["gpu"]  # read when CUDA starts
    import torch

    cores.take_share(message["share"])
    torch.set_num_threads(min(torch.get_num_threads(), cores.available()))
    sys.argv = message["argv"]  # for run.json


class Teller:
    """Tells the parent of jobs; with `judged`, waits for its judgement after an evaluation."""

    def __init__(self, channel: Channel, *, judged: bool) -> None:
        self.channel, self.judged = channel, judged

    def say(self, text: str) -> None:
        """For the screen, which is the parent's."""
        self.channel.send(say=text)

    def tell(self, job: JobRecord, **message: Any) -> None:
        self.channel.send(number=job.number, **message)

    def observer(self, job: JobRecord) -> Observe:
        told = -SECONDS_BETWEEN_ROWS

        def observe(event: dict[str, Any]) -> str | None:
            nonlocal told
            now, waits = time.monotonic(), self.judged and event["split"] == "val"
            if event["split"] == "train" and now - told < SECONDS_BETWEEN_ROWS:
                return None
            told = now
            self.tell(job, event=event, waits=waits)
            answer = self.channel.receive() if waits else None
            return answer["stop"] if answer else None

        return observe
