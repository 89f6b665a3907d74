"""The processes of jobs as their parent sees them: started, heard, answered, ended."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dltrain.sweeps.channel import Channel
from dltrain.sweeps.starters import Ended

MAX_OUTPUT = 8192  # bytes kept of a job's standard error: the last of it may say why it died


class Event(NamedTuple):
    """Of the process `key`: a `message` that it sent; or, where that is None, that it `ended`."""

    key: int
    message: dict[str, Any] | None
    ended: Ended | None = None
    output: str = ""  # the last that it wrote to its standard error


@dataclass
class Process:
    """One that is alive; `output` is where its standard error is read."""

    channel: Channel
    output: int
    tail: bytearray = field(default_factory=bytearray)

    def read_output(self) -> bool:
        """Takes what there is; False after the last."""
        with suppress(BlockingIOError):
            while piece := os.read(self.output, 1 << 16):
                self.tail += piece
                del self.tail[:-MAX_OUTPUT]
            return False
        return True


class Pool:
    """Use it as a context: whatever is alive at its end is killed.

    starter: of dltrain.sweeps.starters; it belongs to the pool from here on.
    """

    def __init__(self, starter: Any) -> None:
        self._starter = starter
        self._selector = selectors.DefaultSelector()
        self._selector.register(starter, selectors.EVENT_READ, (None, "starter"))
        self._processes: dict[int, Process] = {}
        self._rung, self._bell = os.pipe()
        os.set_blocking(self._rung, False)
        os.set_blocking(self._bell, False)
        self._selector.register(self._rung, selectors.EVENT_READ, (None, "bell"))

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load(self, modules: Sequence[str]) -> None:
        """Processes that are started from here on need not import these."""
        self._starter.load(modules)

    def start(self, key: int, **message: Any) -> None:
        """Starts a process and sends it its first message."""
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        os.set_blocking(read, False)
        self._starter.start(key, theirs, write)
        theirs.close()
        os.close(write)
        process = self._processes[key] = Process(Channel(ours), read)
        self._selector.register(ours, selectors.EVENT_READ, (key, "channel"))
        self._selector.register(read, selectors.EVENT_READ, (key, "output"))
        process.channel.send(**message)

    def answer(self, key: int, **message: Any) -> None:
        self._processes[key].channel.send(**message)

    def signal(self, number: int) -> None:
        """To every process that is alive."""
        for key in self._processes:
            self._starter.signal(key, number)

    def wake(self) -> None:
        """Ends a `wait` that is under way; safe in a signal handler."""
        with suppress(BlockingIOError):
            os.write(self._bell, b"!")

    def wait(self, timeout: float | None) -> list[Event]:
        """What has happened, in its order for each process; nothing where the time is up.

        Raises NoStarterError where no process can be started any more.
        """
        events: list[Event] = []
        for ready, _ in self._selector.select(timeout):
            key, what = ready.data
            if what == "starter":
                for ended in self._starter.ended():
                    events += self._last_words(ended)
            elif what == "bell":
                os.read(self._rung, 4096)
            elif key in self._processes:  # it may have ended just now
                events += self._hear(key, what)
        return events

    def _hear(self, key: int, what: str) -> list[Event]:
        process = self._processes[key]
        if what == "output":
            if not process.read_output():
                self._selector.unregister(process.output)
            return []
        events = [Event(key, message) for message in process.channel.messages()]
        if not process.channel.is_open:
            self._selector.unregister(process.channel.socket)
        return events

    def _last_words(self, ended: Ended) -> list[Event]:
        """All that it sent before it ended, and then that it has."""
        process = self._processes.pop(ended.key)
        events = [Event(ended.key, message) for message in process.channel.messages()]
        process.read_output()
        self._forget(process)
        output = bytes(process.tail).decode(errors="replace")
        return [*events, Event(ended.key, None, ended, output)]

    def _forget(self, process: Process) -> None:
        for each in (process.channel.socket, process.output):
            with suppress(KeyError):
                self._selector.unregister(each)
        process.channel.close()
        os.close(process.output)

    def close(self) -> None:
        self._selector.unregister(self._starter)
        self._starter.close()
        for process in self._processes.values():
            self._forget(process)
        self._processes.clear()
        self._selector.close()
        os.close(self._rung)
        os.close(self._bell)
