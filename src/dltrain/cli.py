"""argv -> the command. Knows no torch: help and errors answer at once."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module

from dltrain.commands.signals import SIGNALS
from dltrain.errors import DltrainError, StorageError
from dltrain.lifetime import nothing_collected
from dltrain.sweeps.warm import begun_early

# name: (module, one line of help); `dltrain` alone lists them in this order
COMMANDS = {
    "train": ("dltrain.commands.train", "one run, or with -m a sweep"),
    "resume": ("dltrain.commands.resume", "continue a run in its own directory"),
    "compare": ("dltrain.commands.compare", "a table over runs: what differs, and what came out"),
    "evaluate": ("dltrain.commands.evaluate", "metrics of a run's weights, by class"),
    "predict": ("dltrain.commands.predict", "classes of image files, by a run"),
    "export": ("dltrain.commands.export", "the model as a file for other tools"),
    "rerun": ("dltrain.commands.rerun", "train a run again: is the result the same?"),
    "benchmark": ("dltrain.commands.benchmark", "where a config's time goes, and what to change"),
    "prepare": ("dltrain.commands.prepare", "pack a folder of images into a few large files"),
    "info": ("dltrain.commands.info", "what can be chosen, and what this machine has"),
}
NOTHING_CHANGED = " before it began; nothing was changed"
USAGE = """\
usage: dltrain COMMAND [key=value ...]

{commands}

Try:
  dltrain train                                      # a network learns handwritten digits
  dltrain train model=cnn optimizer.lr=0.003         # another model, another learning rate
  tensorboard --logdir outputs                       # look at both

`dltrain COMMAND --help` says more; `dltrain info model` lists the models.
"""


def run(argv: Sequence[str]) -> int:
    """Runs the command in `argv` and returns its exit code; expected errors are printed."""
    prepare_streams()
    with SIGNALS.taken():
        return exit_code_of(lambda: dispatch(list(argv)))


def exit_code_of(main: Callable[[], int]) -> int:
    """What `main` returns, or what the contract says of how it ended."""
    try:
        code = main()
        sys.stdout.flush()
        return code
    except BaseException as error:
        if SIGNALS.came_early:  # whatever somebody has made of the SystemExit: Hydra wraps it
            said = f". To go on:\n  {SIGNALS.go_on}" if SIGNALS.go_on else NOTHING_CHANGED
            tell(f"stopped by {SIGNALS.name}{said}")
            return SIGNALS.exit_code
        return code_of(error)


def code_of(error: BaseException) -> int:
    """The exit code of an expected end, whose message is printed; raises any other."""
    if isinstance(error, DltrainError):
        print_error(str(error))
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, BrokenPipeError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # whoever read it has gone
        return 0
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # what is left in it has no place
        print_error(f"cannot write: {error.strerror}")
        return StorageError.exit_code
    raise error


def prepare_streams() -> None:
    """Streams that were closed go nowhere; what a terminal cannot show becomes a `?`."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif getattr(stream, "encoding", None) and "utf" not in stream.encoding.lower():
            with suppress(AttributeError, ValueError):
                stream.reconfigure(errors="replace")


def dispatch(argv: list[str]) -> int:
    if is_completion(argv):
        return command("dltrain.commands.completion")(argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        lines = [f"  {name:<11}{text}" for name, (_, text) in COMMANDS.items()]
        print(USAGE.format(commands="\n".join(lines)), end="")
        return 0
    if argv[0] in ("-V", "--version"):
        from dltrain import __version__

        print(f"dltrain {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        from dltrain.config.near import did_you_mean
        from dltrain.errors import UserError

        near = did_you_mean(argv[0], COMMANDS)
        if "=" in argv[0]:
            near = f"did you mean `dltrain train {' '.join(argv)}`?"
        raise UserError(
            f"there is no command `{argv[0]}`; {near or 'one of ' + ', '.join(COMMANDS)}"
        )
    with begun_early(argv):
        return command(COMMANDS[argv[0]][0])(argv[1:])


def command(module: str) -> Callable[[list[str]], int]:
    with nothing_collected():
        main: Callable[[list[str]], int] = import_module(module).main
    return main


def is_completion(argv: list[str]) -> bool:
    return any(arg in ("-sc", "--shell-completion") for arg in argv[:2])


def print_error(message: str) -> None:
    """`dltrain: error:` and at most six lines, on stderr."""
    first, *rest = message.splitlines() or ["unknown error"]
    tell("\n".join([f"dltrain: error: {first}", *(f"  {line}" for line in rest[:5])]))


def tell(text: str) -> None:
    """A message may name what a stranger wrote: what steers a terminal is spelled out."""
    shown = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    try:
        print(shown, file=sys.stderr, flush=True)
    except (OSError, UnicodeEncodeError, AttributeError):
        pass  # nobody is listening
