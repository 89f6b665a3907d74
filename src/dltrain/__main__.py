"""`dltrain` and `python -m dltrain`: the exit code, and nothing else."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs the command line and ends the process with its exit code.

    By os._exit: tearing down an interpreter that has imported torch takes half a second, and every
    file is closed by then. Whatever is registered to run at exit still runs.
    """
    from dltrain.commands.signals import SIGNALS

    SIGNALS.take()  # before anything that takes time to import
    from dltrain.cli import run

    code = run(sys.argv[1:])
    if "torch" not in sys.modules:
        sys.exit(code)
    import atexit
    import threading

    # As the interpreter itself ends: idle threads of an executor (torch.compile has one) are told
    # to go before threads are waited for
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # whoever read it has gone
    os._exit(code)


if __name__ == "__main__":
    main()
