"""Odd surroundings: a run works in all of them, or says in a line why it cannot."""

import os
import subprocess
import sys

import pytest

RUN = "-m dltrain train trainer.max_steps=30 trainer.threads=1 model.hidden_sizes=[16]"
TRAIN = f"{sys.executable} {RUN}"
CONSOLE = os.path.join(os.path.dirname(sys.executable), "dltrain") + RUN.removeprefix("-m dltrain")
UNSET = ("LANG", "LC_ALL", "LC_CTYPE", "PYTHONUTF8", "PYTHONIOENCODING")

# what a shell is told, beside the variables that are set; TRAIN stands for the command
SHELLS = {
    "C locale": "LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0 TRAIN",
    "unknown locale": "LANG=xx_YY.nonsense TRAIN",
    "ascii": "PYTHONIOENCODING=ascii TRAIN",
    "no home": "unset HOME; TRAIN",
    "home nowhere": "HOME=/nonexistent TRAIN",
    "tmpdir nowhere": "TMPDIR=/nonexistent TRAIN",
    "no environment": "env -i OMP_NUM_THREADS=1 TRAIN",
    "no path": "PATH= TRAIN",
    "stdin closed": "TRAIN <&-",
    "stdout closed": "TRAIN >&-",
    "all closed": "TRAIN <&- >&- 2>&-",
    "nobody reads": "set -o pipefail; TRAIN | true",
    "one line read": "set -o pipefail; TRAIN | head -1",
    "pipe signal ignored": "trap '' PIPE; set -o pipefail; TRAIN | true",
    "full screen": "TRAIN >/dev/full",
    "one column": "COLUMNS=1 TRAIN",
    "dumb terminal": "TERM=dumb TRAIN",
    "colours forced": "FORCE_COLOR=1 TRAIN",
    "odd folder": "mkdir $'a b\\n\\xff\\u6f22${seed}'; cd a*; TRAIN",
    "git broken": "mkdir .git; echo garbage > .git/HEAD; TRAIN",
    "git of another": "git init -q .; chown -R 12345 .git 2>&-; TRAIN",
    "umask 077": "umask 077; TRAIN",
    "few files": "ulimit -n 64; TRAIN",
    "optimized": "PYTHONOPTIMIZE=2 TRAIN",
    "warnings are errors": "PYTHONWARNINGS=error TRAIN",
    "safe path": "PYTHONSAFEPATH=1 TRAIN",
    "nice": "nice -n 19 TRAIN",
    "no device visible": "CUDA_VISIBLE_DEVICES= TRAIN",
    "unknown time zone": "TZ=Nowhere/Nope TRAIN",
    "outputs is a link": "mkdir real; ln -s real outputs; TRAIN",
    "hydra's own errors": "HYDRA_FULL_ERROR=1 TRAIN",
}
HIJACK = "echo 'raise SystemExit(7)' | tee torch.py yaml.py hydra.py numpy.py git.py >/dev/null; "
HIJACK += (
    "mkdir dltrain hydra_plugins; cp torch.py dltrain/__init__.py; cp torch.py hydra_plugins/x.py"
)

REFUSED = {
    "outputs is a file": ("touch outputs; TRAIN", "outputs"),
    "outputs leads nowhere": ("ln -s nowhere outputs; TRAIN", "outputs"),
    "outputs leads to itself": ("ln -s outputs outputs; TRAIN", "outputs"),
    "folder is gone": ("mkdir gone; cd gone; rmdir ../gone; TRAIN", "current folder"),
    "several processes": ("WORLD_SIZE=2 TRAIN", "torchrun"),
}


def in_shell(script, folder, command=TRAIN):
    environ = {key: value for key, value in os.environ.items() if key not in UNSET}
    return subprocess.run(
        ["bash", "-c", script.replace("TRAIN", command)],
        cwd=folder,
        env=environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )


def assert_trained(done, folder):
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert len(list(folder.rglob("run.json"))) == 1


def test_a_closed_screen_in_an_odd_folder_of_the_c_locale(tmp_path):
    script = f"{SHELLS['odd folder']} >&-".replace("TRAIN", SHELLS["C locale"])
    assert_trained(
        in_shell(f"unset HOME; export TMPDIR=/nonexistent; {script}", tmp_path), tmp_path
    )


@pytest.mark.parametrize("name", REFUSED)
def test_a_surrounding_in_which_nothing_can_be_written_is_named(name, tmp_path):
    script, named = REFUSED[name]
    done = in_shell(script, tmp_path)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.decode().splitlines()
    assert 1 <= len(lines) <= 6
    assert lines[0].startswith("dltrain: error: ")
    assert named in "".join(lines)
    assert not list(tmp_path.rglob("run.json"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHELLS)
def test_a_run_in_odd_surroundings(name, tmp_path):
    assert_trained(in_shell(SHELLS[name], tmp_path), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists(CONSOLE.split()[0]), reason="no console script here")
def test_the_console_script_imports_nothing_of_the_current_folder(tmp_path):
    assert_trained(in_shell(f"{HIJACK}; TRAIN", tmp_path, CONSOLE), tmp_path)
