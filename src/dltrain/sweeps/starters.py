"""Who starts the processes of jobs: a zygote that forks them, or this process, a fresh one each."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from dltrain.errors import DltrainError
from dltrain.lifetime import signals_held_back
from dltrain.sweeps.zygote import MAX_DATAGRAM, kill_group

# The first line of both: the modules that this process finds, and no others
_LINE = (
    "import sys; sys.path[:] = {path!r}; from dltrain.sweeps.{module} import main; main({setup!r})"
)
# Where a fork is the custom, and the kernel ends a process with its parent
CAN_FORK = sys.platform == "linux"


class NoStarterError(DltrainError):
    """There is nobody to start processes any more."""


class Ended(NamedTuple):
    """code: as of subprocess, negative where a signal has killed it."""

    key: int
    code: int
    reason: str = ""


class Forks:
    """A zygote, which begins to import at once."""

    def __init__(self, entry: str, modules: Sequence[str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # open for as long as this is
        self._alive: set[int] = set()
        in_main = threading.current_thread() is threading.main_thread()
        setup = {
            "socket": theirs.fileno(),
            "parent": os.getpid() if in_main else None,
            "modules": list(modules),
            "entry": entry,
        }
        command = _LINE.format(path=sys.path, module="zygote", setup=setup)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a Ctrl-C of the terminal is this process's alone
        )
        theirs.close()

    def fileno(self) -> int:
        """Readable where `ended` has something to say."""
        return self._control.fileno()

    def load(self, modules: Sequence[str]) -> None:
        """Has jobs that are started from here on find these imported."""
        for name in modules:
            with suppress(BrokenPipeError, ConnectionResetError):  # `ended` says so
                self._control.send(json.dumps({"load": name}).encode())

    def start(self, key: int, channel: socket.socket, output: int) -> None:
        """Starts a process that calls the entry with `channel`, and `output` as standard error."""
        self._alive.add(key)
        message = json.dumps({"start": key}).encode()
        with suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._control, [message], [channel.fileno(), output])

    def signal(self, key: int, number: int) -> None:
        message = json.dumps({"signal": key, "number": number}).encode()
        with suppress(BrokenPipeError, ConnectionResetError):
            self._control.send(message)

    def ended(self) -> list[Ended]:
        """Of one message. Raises NoStarterError where the zygote itself has ended."""
        text = b""
        with suppress(ConnectionResetError):
            text = self._control.recv(MAX_DATAGRAM)
        if not text:
            raise NoStarterError(self._obituary())
        message = json.loads(text)
        if "ended" not in message:
            return []
        self._alive.discard(message["ended"])
        return [Ended(message["ended"], message["code"], message.get("reason", ""))]

    def _obituary(self) -> str:
        how = describe_code(self._process.wait())
        self._output.seek(0)
        lines = self._output.read()[-2000:].decode(errors="replace").strip().splitlines()
        return "\n".join([f"the process that starts a sweep's jobs {how}", *lines[-4:]])

    def close(self) -> None:
        """Ends the zygote, and every process that is left."""
        if not self._alive:
            self._process.kill()  # it may still be importing
        self._control.close()
        self._process.wait()
        self._output.close()


class Fresh:
    """A new interpreter for each job, where a fork is not to be trusted."""

    def __init__(self, entry: str, modules: Sequence[str]) -> None:
        self._entry = entry
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._waiting: list[threading.Thread] = []
        self._news, self._bell = os.pipe()
        # Closed with this process, however it ends: what its jobs wait for, to end as well
        self._lifeline, self._life = os.pipe()

    def fileno(self) -> int:
        return self._news

    def load(self, modules: Sequence[str]) -> None:
        """Each imports what it needs."""

    def start(self, key: int, channel: socket.socket, output: int) -> None:
        setup = {"channel": channel.fileno(), "lifeline": self._lifeline, "entry": self._entry}
        command = _LINE.format(path=sys.path, module="fresh", setup=setup)
        with signals_held_back():  # it inherits that, until it has handlers of its own
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
                pass_fds=[channel.fileno(), self._lifeline],
                start_new_session=True,
            )
        self._processes[key] = process

        def wait() -> None:
            process.wait()
            os.write(self._bell, key.to_bytes(8, "little", signed=True))

        thread = threading.Thread(target=wait, name=f"job {key}", daemon=True)
        thread.start()
        self._waiting = [each for each in self._waiting if each.is_alive()] + [thread]

    def signal(self, key: int, number: int) -> None:
        with suppress(ProcessLookupError, KeyError):
            self._processes[key].send_signal(number)

    def ended(self) -> list[Ended]:
        key = int.from_bytes(os.read(self._news, 8), "little", signed=True)
        process = self._processes.pop(key)
        if process.wait() < 0:  # killed: what it has started is nobody's now
            kill_group(process.pid)
        return [Ended(key, process.wait())]

    def close(self) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for thread in self._waiting:
            thread.join()
        for descriptor in (self._news, self._bell, self._lifeline, self._life):
            os.close(descriptor)


def describe_code(code: int) -> str:
    """`ended with 1`, or `was killed by SIGKILL`."""
    if code >= 0:
        return f"ended with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def make_starter(entry: str, modules: Sequence[str]) -> Any:
    return (Forks if CAN_FORK else Fresh)(entry, modules)
