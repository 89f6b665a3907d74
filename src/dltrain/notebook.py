"""`dltrain.train(...)`: an experiment from a notebook, by the same path as the command."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from hydra.core.singleton import Singleton

from dltrain.commands.job import run_job
from dltrain.commands.process_state import process_as_found
from dltrain.commands.signals import Signals
from dltrain.commands.train import single_job, take_allowed_targets
from dltrain.config import compose as composing
from dltrain.durable import storage_error
from dltrain.errors import NO_SPACE, DltrainError
from dltrain.trained import TrainedRun, load_run


class Interrupts(Signals):
    """A notebook's process outlives the run: a second interrupt ends the run, and only that."""

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        super().handle(number, frame)


def train(
    overrides: Sequence[str] = (),
    *,
    config_dir: str | os.PathLike[str] | None = None,
    allow_target: Sequence[str] = (),
) -> TrainedRun:
    """Runs `dltrain train OVERRIDES` in this process and gives the run that it made.

    config_dir: a folder of your own configs. allow_target: packages of your own that they name.
    The current folder, signal handlers, Hydra's state, random generators and torch's settings are
    afterwards as before; the run's model is on the device of its training.

    Raises DltrainError with the message that the command would print. An interrupt finishes the
    step, saves a checkpoint, and raises KeyboardInterrupt: `dltrain resume` goes on.
    """
    typed = texts(overrides)
    vouched = [word for name in allow_target for word in ("--allow-target", name)]
    signals = Interrupts()
    with alone(), surroundings(["dltrain", "train", *typed, *vouched]), signals.taken():
        allowed, _ = take_allowed_targets(vouched)
        folder = None if config_dir is None else os.fspath(config_dir)
        try:
            cfg = composing.compose(typed, user_config_dir=folder)
            result = run_job(single_job(cfg, typed, allowed), signals)
        except SystemExit:  # a signal, before there was anything to save
            raise KeyboardInterrupt from None
        except OSError as error:
            if error.errno in NO_SPACE:
                raise storage_error(error) from error
            raise
    if signals.received == signal.SIGINT:
        raise KeyboardInterrupt(f"saved; `dltrain resume {result.run_dir}` goes on")
    if signals.received is not None:
        raise DltrainError(f"stopped by {signals.name}; `dltrain resume {result.run_dir}` goes on")
    return load_run(result.run_dir, device=cfg.trainer.device, allow_target=allow_target)


def texts(overrides: Sequence[str]) -> list[str]:
    if isinstance(overrides, str) or not isinstance(overrides, Iterable):
        raise DltrainError(f"overrides is {overrides!r}; it must be a list, such as ['seed=1']")
    typed = list(overrides)
    for place, text in enumerate(typed):
        if not isinstance(text, str):
            raise DltrainError(
                f"overrides[{place}] is {text!r}; it must be a text such as 'seed=1'"
            )
    return typed


BUSY = threading.Lock()


@contextmanager
def alone() -> Iterator[None]:
    """Two trainings of a process share what only one can have: random numbers, signals, Hydra."""
    if not BUSY.acquire(blocking=False):
        raise DltrainError(
            "another dltrain.train is under way in this process; wait for it, or start this one in "
            "a process of its own"
        )
    try:
        yield
    finally:
        BUSY.release()


@contextmanager
def surroundings(command: list[str]) -> Iterator[None]:
    """What a command sets for its process is put back; `command` is what the record will say."""
    argv, path, state = sys.argv, list(sys.path), Singleton.get_state()
    log = logging.getLogger("dltrain")
    propagate, level = log.propagate, log.level
    sys.argv = command
    try:
        with process_as_found():
            yield
    finally:
        sys.argv, sys.path[:] = argv, path
        Singleton.set_state(state)
        log.propagate = propagate
        log.setLevel(level)
