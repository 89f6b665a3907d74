"""A process that has imported what jobs need, and forks one for each: a job pays no import.

It runs nothing itself: no thread is started, no CUDA touched, no number drawn. So every job begins
as the one before it did, and what a job changes ends with its process. It is
started anew for every sweep, as `python -c` with a line that calls `main`, and talks by datagrams
of JSON over a socket. It is told `{"start": key}` with two descriptors (the job's channel, and
its standard error), `{"signal": key, "number": n}` and `{"load": module}`, and tells
`{"ended": key, "code": n}`.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

from dltrain.lifetime import STOPPING, die_with, leave, nothing_collected, signals_held_back

MAX_DATAGRAM = 4096
# Left to itself, OpenBLAS starts its threads when numpy is imported
ONE_THREAD = "OPENBLAS_NUM_THREADS"


def main(setup: dict[str, Any]) -> None:
    """Serves until the other end of the socket is closed, then ends what is left.

    setup: `socket`, `parent` (the process to die with, or None where the closed socket has to do),
    `modules` to import, and `entry`, the `module:function` that is called with a job's channel and
    gives its exit code.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)  # they are for the jobs, and their parent passes on
    if setup["parent"] is not None:
        die_with(setup["parent"])
    control = socket.socket(fileno=setup["socket"])
    load(setup["modules"])
    module, _, function = setup["entry"].partition(":")
    Zygote(control, getattr(import_module(module), function)).serve()


def load(modules: Sequence[str]) -> None:
    """Imports them as a process that has one thread, and keeps it."""
    threads = os.environ.get(ONE_THREAD)
    os.environ[ONE_THREAD] = "1"
    with nothing_collected():
        for name in modules:
            with suppress(ImportError):  # the job that needs it says what is wrong with it
                import_module(name)
    if threads is None:
        del os.environ[ONE_THREAD]
    else:
        os.environ[ONE_THREAD] = threads
    gc.collect()
    gc.freeze()  # a collection in a job does not copy these pages


class Zygote:
    """The children that are alive, by the key that their starter gave them."""

    def __init__(self, control: socket.socket, entry: Any) -> None:
        self.control, self.entry = control, entry
        self.children: dict[int, int] = {}  # pid -> key
        self.wake, self.woken = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(self.wake, False)

    def serve(self) -> None:
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self.woken, warn_on_full_buffer=False)
        control = self.control.fileno()
        while True:
            ready, _, _ = select.select([control, self.wake], [], [])
            if self.wake in ready:
                os.read(self.wake, 4096)
                self.bury()
            if control not in ready:
                continue
            text, descriptors, _, _ = socket.recv_fds(self.control, MAX_DATAGRAM, 2)
            if not text:
                break
            self.answer(json.loads(text), descriptors)
        for pid in self.children:
            kill_group(pid)
        os._exit(0)

    def tell(self, **message: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self.control.send(json.dumps(message).encode())

    def answer(self, message: dict[str, Any], descriptors: Sequence[int]) -> None:
        if "start" in message:
            self.start(message["start"], descriptors)
            return
        if "load" in message:
            load([message["load"]])
            return
        pid = next((p for p, key in self.children.items() if key == message["signal"]), None)
        if pid is None:
            return  # it has ended, and its number may be another's by now
        with suppress(ProcessLookupError):
            os.kill(pid, message["number"])

    def start(self, key: int, descriptors: Sequence[int]) -> None:
        zygote = os.getpid()
        try:
            with signals_held_back():
                pid = os.fork()
                if pid == 0:
                    self.become(descriptors, zygote)
            self.children[pid] = key
        except OSError as error:
            self.tell(ended=key, code=1, reason=f"no process can be started: {error.strerror}")
        for descriptor in descriptors:
            os.close(descriptor)

    def become(self, descriptors: Sequence[int], zygote: int) -> NoReturn:
        """In the fork: leaves what is the zygote's, and runs the job. Never returns."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with(zygote)
            os.setsid()  # a Ctrl-C is its parent's to pass on, and it can be killed as a whole
            for descriptor in (self.control.detach(), self.wake, self.woken):
                os.close(descriptor)
            channel, output = descriptors
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a run says is in its train.log
            os.dup2(output, 2)
            os.close(output)
            run(self.entry, channel)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def bury(self) -> None:
        for pid in list(self.children):
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                continue
            if ended.si_code != os.CLD_EXITED:  # killed: what it has started is nobody's now
                kill_group(pid)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            self.tell(ended=self.children.pop(pid), code=code)


def kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def run(entry: Any, channel: int) -> NoReturn:
    """Calls `entry` with the job's channel, and ends the process with the code that it gives."""
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace")  # noqa: SIM115
    code = 1
    try:
        code = entry(socket.socket(fileno=channel))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    leave(code)
