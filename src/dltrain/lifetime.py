"""When a process begins and ends: its imports, with its parent, without what is torn down."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
PR_SET_PDEATHSIG = 1  # prctl(2)
_LIBC = ctypes.CDLL(None)  # found before there are forks, in which a loader's lock may be held


def die_with(parent: int) -> None:
    """Has the kernel kill this process as soon as its parent is gone, even by SIGKILL.

    To the kernel a parent is the thread that forked: only for children of a main thread.
    """
    if sys.platform == "linux":
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was faster
        os._exit(0)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Until a fork has its own handlers, it must not answer signals with its parent's."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def nothing_collected() -> Iterator[None]:
    """For imports of many modules: what they make stays, and to look for garbage in it again and
    again takes a fifth of the time of `import torch`.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def leave(code: int) -> NoReturn:
    """Ends the process: what is registered to run at exit runs, and nothing is torn down.

    By os._exit: to tear down an interpreter that has imported torch takes half a second, and every
    file is closed by then.
    """
    import atexit
    import threading

    # As the interpreter itself ends: idle threads of an executor (torch.compile has one) are told
    # to go before threads are waited for
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # whoever read it has gone
    os._exit(code)
