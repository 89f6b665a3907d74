"""Ctrl-C and the signals of schedulers: finish the step, save, say how to go on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Signals:
    """The stopping signals of this process, once they are taken.

    Until there is something to save, the first signal raises SystemExit. From `call` on the first
    one calls that, and only a second Ctrl-C ends the process at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        # Slurm may send SIGTERM first, and then the one that it was told
        self.all: set[int] = set()
        self.on_stop: Callable[[int], None] | None = None
        self.go_on = ""  # the command that goes on with what has been begun
        self._waits = False

    def take(self) -> None:
        """From here on signals come here; one that came since an earlier `take` is kept."""
        if signal.getsignal(signal.SIGTERM) != self.handle:
            self.received = None
            self.all = set()
        self.on_stop, self.go_on = None, ""
        for number in STOPPING:
            try:
                signal.signal(number, self.handle)
            except ValueError:
                return  # not the main thread (a notebook's worker): whoever is there handles them

    @contextmanager
    def taken(self) -> Iterator[None]:
        """The same for a while: whoever had the signals before has them again afterwards."""
        before = [(number, signal.getsignal(number)) for number in STOPPING]
        self.take()
        try:
            yield
        finally:
            try:
                for number, handler in before:
                    signal.signal(number, handler)
            except (ValueError, TypeError):
                pass  # another thread's, or a handler that is not Python's

    def call(self, on_stop: Callable[[int], None]) -> None:
        """From here on a signal calls `on_stop(number)`; one that came before does at once."""
        self.on_stop = on_stop
        if self.received is not None:  # raised, and swallowed by a bare except of somebody's
            on_stop(self.received)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A signal is answered at the end of this: for imports of C++, which an exception from a
        handler would end with `terminate called` and no exit code of ours.
        """
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        if self.came_early:
            sys.exit(self.exit_code)

    @property
    def came_early(self) -> bool:
        """One came while there was nothing to save."""
        return self.received is not None and self.on_stop is None

    @property
    def name(self) -> str:
        """As the shell's `kill -l` has it: SIGTERM."""
        return "no signal" if self.received is None else signal.Signals(self.received).name

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for the others, 0 where no signal came."""
        if self.received is None:
            return 0
        return 130 if self.received == signal.SIGINT else 143

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.all.add(number)
        again = self.received is not None
        self.received = self.received or number
        if again and number == signal.SIGINT:
            os._exit(130)
        if again:
            return
        if self.on_stop is not None:
            self.on_stop(number)
        elif not self._waits:
            sys.exit(self.exit_code)  # directories made for the run are removed on the way out


SIGNALS = Signals()
