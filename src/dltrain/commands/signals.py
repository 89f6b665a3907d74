"""Ctrl-C and the signals of schedulers: finish the step, save, say how to go on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Signals:
    """Takes the stopping signals from here on.

    Until `on_stop` is set there is nothing to save, and the first signal raises SystemExit. Then
    the first one calls `on_stop`, and only a second Ctrl-C ends the process at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.on_stop: Callable[[int], None] | None = None
        for number in STOPPING:
            try:
                signal.signal(number, self.handle)
            except ValueError:
                return  # not the main thread (a notebook's worker): whoever is there handles them

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
        again = self.received is not None
        self.received = self.received or number
        if again and number == signal.SIGINT:
            os._exit(130)
        if again:
            return
        if self.on_stop is None:
            sys.exit(self.exit_code)  # directories made for the run are removed on the way out
        self.on_stop(number)
