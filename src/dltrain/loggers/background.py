"""Calls that may take long or fail, made one after another in a thread: a run never waits."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

log = logging.getLogger("dltrain")
MAX_WAITING = 10_000  # calls; more are dropped: a server has been away for long then


class Background:
    """What fails is said, the first time and in total at the end, and the run goes on.

    name: the config's key of whoever calls, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.num_failed = 0
        self._calls: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = queue.Queue(
            MAX_WAITING
        )
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            self._calls.put_nowait((function, arguments))
        except queue.Full:
            self.num_failed += 1

    def finish(self, timeout_sec: float) -> bool:
        """Waits for what is left; False where it took longer, or something has failed."""
        deadline = time.monotonic() + timeout_sec
        try:
            self._calls.put(None, timeout=timeout_sec)
        except queue.Full:
            pass
        self._thread.join(max(0.0, deadline - time.monotonic()))
        is_late = self._thread.is_alive()
        if is_late:
            log.warning("%s: not done after %.0f s; the rest is lost there", self.name, timeout_sec)
        elif self.num_failed:
            log.warning("%s: %d calls have failed in all", self.name, self.num_failed)
        return not is_late and not self.num_failed

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            function, arguments = item
            try:
                function(*arguments)
            except Exception as error:  # whatever a library or a network comes up with
                self.num_failed += 1
                if self.num_failed == 1:
                    say(self.name, error)


def say(name: str, error: BaseException) -> None:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    log.warning("%s: %s; the run goes on, its numbers are in metrics.jsonl", name, reason)


def require(module: str, name: str) -> None:
    """Raises ImportError, with the extra to install, where `module` is missing; imports nothing."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise ImportError(f"{name} needs {module}: pip install 'dltrain[{module}]'")
