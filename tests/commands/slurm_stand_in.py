"""sbatch, srun, squeue, sacct, scancel and scontrol of one machine: jobs are real processes.

Which of them it is tells the name by which it was called. What it knows lies in $SLURM_STAND_IN: of
each job `ID.pid` (while it runs), `ID.requeue` (asked for), `ID.state` (once it is over). While a
file `hold` is there, jobs wait.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scancel", "scontrol")


def install(folder: Path) -> dict[str, str]:
    """Puts the commands into `folder`; the environment in which they are found."""
    for name in ("bin", "state"):
        (folder / name).mkdir()
    for name in COMMANDS:
        path = folder / "bin" / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        path.chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "SLURM_STAND_IN": str(folder / "state")}


def directives(script: Path) -> dict[str, str]:
    """The options in the script's `#SBATCH` lines."""
    lines = [line for line in script.read_text().splitlines() if line.startswith("#SBATCH --")]
    pairs = [shlex.split(line)[1].lstrip("-").partition("=") for line in lines]
    return {key: value for key, _, value in pairs}


def sbatch(state: Path, script: str) -> None:
    number = 100 + len(list(state.glob("*.sh")))
    (state / f"{number}.sh").write_text(Path(script).read_text())
    given = directives(Path(script))
    if "bad" in given.get("partition", ""):
        sys.exit("sbatch: error: invalid partition specified: bad")
    last = re.match("0-([0-9]+)", given.get("array", ""))
    ids = [f"{number}_{i}" for i in range(int(last[1]) + 1)] if last else [str(number)]
    for each in ids:
        command = [sys.executable, __file__, "slurmd", each, given.get("cpus-per-task", "1")]
        null = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL, **null)
    print(f"Submitted batch job {number}")


def slurmd(state: Path, identity: str, cpus: str) -> None:
    """Runs the script of a job, again for as long as somebody asks for that."""
    number, _, index = identity.partition("_")
    env = os.environ | {"SLURM_JOB_ID": number, "SLURM_CPUS_PER_TASK": cpus, "SLURM_PROCID": "0"}
    if index:
        env |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": index}
    while True:
        while (state / "hold").exists():
            time.sleep(0.05)
        code = subprocess.run(["bash", state / f"{number}.sh"], env=env, check=False).returncode
        (state / f"{identity}.pid").unlink(missing_ok=True)
        if not (state / f"{identity}.requeue").exists():
            break
        (state / f"{identity}.requeue").unlink()
    if not (state / f"{identity}.state").exists():
        name = "OUT_OF_MEMORY" if code == 137 else "FAILED" if code else "COMPLETED"
        (state / f"{identity}.state").write_text(name)


def srun(state: Path, *argv: str) -> None:
    number, index = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_ARRAY_TASK_ID", "")
    identity = f"{number}_{index}" if index else number
    words = list(argv)
    while words[0].startswith("--"):
        option = words.pop(0)
        if option in ("--output", "--error"):
            name = words.pop(0).replace("%A", number).replace("%a", index)
            file = os.open(
                name.replace("%j", identity).replace("%t", "0"), os.O_WRONLY | os.O_CREAT
            )
            os.dup2(file, 1 if option == "--output" else 2)
    (state / f"{identity}.pid").write_text(str(os.getpid()))
    os.execvp(words[0], words)


def squeue(state: Path, *argv: str) -> None:
    jobs = next(word for word in argv if word.startswith("--jobs=")).partition("=")[2].split(",")
    scripts = [state / f"{each}.sh" for each in jobs]
    if not any(script.exists() for script in scripts):
        sys.exit("slurm_load_jobs error: Invalid job id specified")
    for script in filter(Path.exists, scripts):
        array = re.match("0-([0-9]+)", directives(script).get("array", ""))
        ids = [f"{script.stem}_{i}" for i in range(int(array[1]) + 1)] if array else [script.stem]
        for each in ids:
            if not (state / f"{each}.state").exists():
                print(each, "RUNNING" if (state / f"{each}.pid").exists() else "PENDING")


def sacct(state: Path, *argv: str) -> None:
    print((state / f"{argv[-1]}.state").read_text())


def scancel(state: Path, *argv: str) -> None:
    name = next(word for word in argv if word.startswith("--name=")).partition("=")[2]
    for identity in (word for word in argv if not word.startswith("-")):
        if directives(state / f"{identity.partition('_')[0]}.sh").get("job-name") == name:
            (state / f"{identity}.state").write_text("CANCELLED")
            with suppress(OSError):
                os.kill(int((state / f"{identity}.pid").read_text()), signal.SIGTERM)


def scontrol(state: Path, verb: str, identity: str) -> None:
    assert verb == "requeue"
    (state / f"{identity}.requeue").touch()


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(os.environ["SLURM_STAND_IN"]), *sys.argv[2:])
