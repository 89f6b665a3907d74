"""Jobs by Ray: on a cluster that is there, or on one that is started here for the sweep."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dltrain.errors import UserError

# A worker takes one job and ends, so that no job sees what another has left in the process
OURS = {"max_calls": 1}


class RayEngine:
    """One task a job. Its tasks end with this process: Ray ends them with their driver."""

    name, limit, at_a_time, outlives, near = "ray", None, 10**6, False, False
    shares_machine, keeps_output = False, False
    poll_sec, grace_sec = 0.5, 2.0

    def __init__(self, settings: Mapping[str, Any], retries: int) -> None:
        import ray

        self.ray = ray
        given = dict(settings["ray"]["init"])
        self.started = not ray.is_initialized()
        try:
            if self.started:
                with without_good_news():
                    ray.init(**given)
        except (ConnectionError, ValueError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"hydra.launcher.ray.init: Ray does not start: {reason}") from error
        # Of a node that is lost; what fails within a job is no matter of Ray's
        options = OURS | {"max_retries": retries} | dict(settings["ray"]["remote"])
        try:
            self.function = ray.remote(**options)(call)
        except (ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"hydra.launcher.ray.remote: {reason}") from error
        self.tasks: dict[str, Any] = {}

    def submit(self, works: Sequence[Callable[[], Any]], place: Path) -> list[str]:
        ids = [f"{place.name}-{index}" for index in range(len(works))]
        for identity, work in zip(ids, works, strict=True):
            self.tasks[identity] = self.function.remote(work)
        return ids

    def alive(self, ids: Sequence[str]) -> dict[str, str]:
        known = {self.tasks[each]: each for each in ids if each in self.tasks}
        _, left = (
            self.ray.wait(list(known), num_returns=len(known), timeout=0) if known else ([], [])
        )
        return {known[task]: "waits or runs" for task in left}

    def ended(self, identity: str) -> str:
        try:
            self.ray.get(self.tasks[identity], timeout=0)
        except Exception as error:  # Ray has many, and those of the task
            lines = [line for line in str(error).splitlines() if line.strip()]
            return f"{type(error).__name__}: {lines[-1].strip() if lines else 'no reason given'}"
        return "it ended without a result"

    def cancel(self, ids: Sequence[str]) -> None:
        """A task that runs gets Ctrl-C, once: the second would end it at once."""
        for each in ids:
            if each in self.tasks:
                with suppress(Exception):  # it has just ended
                    self.ray.cancel(self.tasks[each], force=False)

    def log(self, identity: str, place: Path, number: int) -> Path:
        return place / f"{number}.log"

    def forget(self, identity: str, place: Path) -> None:
        self.tasks.pop(identity, None)

    def close(self) -> None:
        if self.started:
            self.ray.shutdown()


@contextmanager
def without_good_news() -> Iterator[None]:
    """Ray warns that its cluster is protected by a token, and how to undo that; that it is not
    protected is still told."""
    speaker = logging.getLogger("ray._private.authentication.authentication_token_setup")
    speaker.addFilter(is_no_good_news)
    try:
        yield
    finally:
        speaker.removeFilter(is_no_good_news)


def is_no_good_news(record: logging.LogRecord) -> bool:
    return "Token authentication is enabled" not in record.getMessage()


def call(work: Callable[[], Any]) -> Any:
    """What Ray is given by name; the work is small data of a class of ours."""
    return work()
