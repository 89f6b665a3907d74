"""`dltrain` and `python -m dltrain`: the exit code, and nothing else."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    from dltrain.commands.signals import SIGNALS

    SIGNALS.take()  # before anything that takes time to import
    from dltrain.cli import run

    code = run(sys.argv[1:])
    if "torch" not in sys.modules:
        sys.exit(code)
    from dltrain.lifetime import leave

    leave(code)


if __name__ == "__main__":
    main()
