"""Shell completion: Hydra's own, told which of our commands the words before it are."""

from __future__ import annotations

import os
from pathlib import Path

from dltrain.cli import COMMANDS
from dltrain.commands.hydra_app import through_hydra
from dltrain.errors import UserError

# Commands that take overrides, and of which config
COMPOSED = {"train": "train", "benchmark": "train", "prepare": "prepare"}
SHELLS = ("bash", "zsh", "fish")


def main(argv: list[str]) -> int:
    """`dltrain -sc install=bash|zsh|fish`, `uninstall=`, and what those scripts call: `query=`."""
    what = next((arg for arg in argv if "=" in arg), "")
    verb, _, shell = what.partition("=")
    if verb not in ("install", "uninstall", "query") or shell not in SHELLS:
        raise UserError(
            "write `dltrain -sc install=SHELL`, SHELL one of bash, zsh, fish\n"
            'for bash: eval "$(dltrain -sc install=bash)"'
        )
    if verb != "query":
        return install(what)
    words = os.environ.get("COMP_LINE", "").split(" ")
    if words[0].startswith("python") and words[1:3] == ["-m", "dltrain"]:
        words = ["dltrain", *words[3:]]
    if len(words) <= 2:
        print(" ".join(name for name in COMMANDS if name.startswith((words[1:] or [""])[0])))
        return 0
    if words[1] in COMPOSED:
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
        return through_hydra(["-sc", what, f"--config-name={COMPOSED[words[1]]}"])
    print(" ".join(completions(words[1], words[-1])))
    return 0


def install(what: str) -> int:
    """Hydra's script, for the program's own name."""
    return through_hydra(["-sc", what], program="dltrain")


def completions(name: str, word: str) -> list[str]:
    """For `info` the groups; for `resume` the runs below outputs/."""
    if name == "info":
        from dltrain.commands.info import read_groups
        from dltrain.config.compose import config_dir

        choices = list(read_groups([config_dir()]))
    else:
        choices = [
            "latest",
            *(str(path.parent) for path in Path("outputs").glob("*/*/config.yaml")),
        ]
    return [choice for choice in choices if choice.startswith(word)]
