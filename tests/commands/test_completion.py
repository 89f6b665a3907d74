"""Shell completion: the scripts that are installed, and what they ask the program."""

import os
import shutil
import subprocess
import sys

import pytest

from dltrain.cli import COMMANDS
from dltrain.config.compose import config_dir

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture
def path_with_dltrain(tmp_path):
    """An environment in which `dltrain` is this source, whatever is installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "dltrain"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m dltrain "$@"\n')
    script.chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


def complete_in_bash(line, cwd, env):
    """What a real bash offers for `line` after Tab, the installed script sourced as documented."""
    script = """
eval "$(dltrain -sc install=bash)"
COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}
read -ra COMP_WORDS <<< "$COMP_LINE"
[[ "$COMP_LINE" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
function_name=$(complete -p dltrain | sed 's/.*-F \\([^ ]*\\).*/\\1/')
compopt() { :; }
$function_name 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""
    done = subprocess.run(
        ["bash", "-c", script, "bash", line], cwd=cwd, env=env, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_completes_commands_groups_choices_and_keys(path_with_dltrain, tmp_path):
    models = {f"model={path.stem}" for path in (config_dir() / "model").glob("*.yaml")}
    for line, wanted in {
        "dltrain ": set(COMMANDS),
        "dltrain tr": {"train"},
        "dltrain train model=": models,
        "dltrain train model=resnet1": {m for m in models if m.startswith("model=resnet1")},
        "dltrain train seed=1 optimizer.l": {"optimizer.lr="},
        "dltrain prepare prepare.s": {"prepare.store=", "prepare.side=", "prepare.shard_mib="},
        "dltrain info mod": {"model"},
    }.items():
        assert set(complete_in_bash(line, tmp_path, path_with_dltrain)) == wanted, line


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_a_script_for_the_programs_own_name(shell, without_torch):
    outcome = without_torch("-sc", f"install={shell}")
    assert (outcome.code, outcome.torch) == (0, False)
    assert "-sc query=" in outcome.out  # Hydra's zsh borrows bash's
    assert "dltrain" in outcome.out
    assert without_torch("-sc", f"uninstall={shell}").code == 0


@pytest.mark.parametrize("name", SHELLS)
def test_every_shell_may_ask(name, shell):
    line = "dltrain train scheduler=c"
    environ = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_CWORD": "2"}
    outcome = shell("-sc", f"query={name}", env=environ)
    assert outcome.code == 0, outcome.err
    assert {"scheduler=constant", "scheduler=cosine"} <= set(outcome.out.split())


def test_resume_completes_runs(shell, finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "outputs" / "digits_mlp" / "one")
    outcome = shell("-sc", "query=bash", env={"COMP_LINE": "dltrain resume out"})
    assert outcome.out.split() == ["outputs/digits_mlp/one"]
