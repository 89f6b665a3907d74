"""What made a run: `run.json`."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dltrain import runs
from dltrain.durable import replace_text

if TYPE_CHECKING:
    from dltrain.commands.run import Job
    from dltrain.engine.trainer import Trainer

log = logging.getLogger("dltrain")
# Their arithmetic, our order of it, and their pixels
EXACT = ("dltrain", "torch", "torchvision", "numpy", "pillow", "simplejpeg")
PACKAGES = (*EXACT, "hydra-core", "omegaconf", "safetensors")


def record(config: dict[str, Any], choices: dict[str, Any], precision: str) -> dict[str, Any]:
    """Everything that a reader needs to know how this run came to be."""
    import torch

    return {
        "command": shlex.join(["dltrain", *sys.argv[1:]]),
        "start": datetime.now().astimezone().isoformat(timespec="seconds"),
        "seed": config["seed"],
        "precision": precision,
        "threads": torch.get_num_threads(),
        "choices": choices,
        "config_digest": config_digest(config),
        "git": git_state(),
        "versions": {"python": platform.python_version(), **versions()},
        "host": platform.node(),
        "platform": platform.platform(),
        "pid": os.getpid(),
    }


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What of two records keeps a run that goes on from being bit for bit the same."""
    before, after = old.get("versions"), new["versions"]
    pairs = [(name, before.get(name), after.get(name)) for name in EXACT] if before else []
    pairs += [("device", kind_of(old.get("device")), kind_of(new["device"]))]
    pairs += [(name, old.get(name), new[name]) for name in ("threads", "precision")]
    return [f"{name} {old} -> {new}" for name, old, new in pairs if new and old not in (None, new)]


def kind_of(device: Any) -> str | None:
    """`cuda:1 (NVIDIA H100)` is of the same kind as `cuda:0 (NVIDIA H100)`."""
    if not isinstance(device, str):
        return None
    place, _, name = device.partition(" ")
    return f"{place.partition(':')[0]} {name}".strip()


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def git_state() -> dict[str, Any] | None:
    """The commit of the current folder's repository, and whether it was dirty; or None."""
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    if runs_programs():
        return {"commit": commit, "dirty": None}
    status = git("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
    return {"commit": commit, "dirty": None if status is None else bool(status)}


def runs_programs() -> bool:
    """Whether `git status` would start what this repository itself names.

    A folder from a stranger can bring its own `.git`; what is in the user's own settings (Git LFS,
    say) the user has chosen.
    """
    keys = r"^(filter\..*\.(clean|process)|core\.fsmonitor|include.*)$"
    done = run_git("config", "--show-scope", "--get-regexp", keys)
    if done is None or done.returncode not in (0, 1):  # 1: there are none
        return True  # a git that cannot tell (before 2.26)
    own = ("local", "worktree")
    return any(line.startswith(own) for line in done.stdout.splitlines())


def git(*arguments: str) -> str | None:
    done = run_git(*arguments)
    return done.stdout.strip() if done is not None and done.returncode == 0 else None


def run_git(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Without what writes (the index) or starts something (hooks); None where git does not run."""
    safe = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    try:
        return subprocess.run(
            ["git", *safe, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=5,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def config_digest(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


MAX_CLASSES, MAX_NAME, MAX_NAMES_BYTES = 10_000, 100, 1 << 20


def class_names(dataset: Any) -> list[str] | None:
    """What a dataset calls its classes, as far as a record has room; None where it does not."""
    try:
        names = [str(name)[:MAX_NAME] for name in getattr(dataset, "classes", None) or ()]
    except (OSError, ValueError, TypeError):  # a property that looks at the data, which are gone
        return None
    fits = 0 < len(names) <= MAX_CLASSES and len(json.dumps(names)) <= MAX_NAMES_BYTES
    return names if fits else None


def write(run_dir: Path, job: Job, trainer: Trainer, dataset: Any) -> None:
    """Leaves config.yaml, Hydra's own files and the record of what made the run, or went on."""
    from dltrain.engine.device import device_name

    text = yaml.safe_dump(job.config, sort_keys=False, allow_unicode=True)
    replace_text(run_dir / runs.CONFIG, text)  # first: with it a directory can be resumed
    hydra_dir = run_dir / runs.HYDRA
    for name, text in job.hydra_files.items():
        hydra_dir.mkdir(exist_ok=True)
        replace_text(hydra_dir / name, text, sync=False)
    new = record(job.config, job.choices, trainer.precision)
    new["device"] = device_name(trainer.device)
    classes = {"classes": class_names(dataset)}  # to name predictions where the data is not
    first = runs.read_if_whole(run_dir / runs.RECORD)
    if first:  # what made the run stays; beside it, what went on with it
        again = first.get("resumed", [])
        changed = differences(again[-1] if again else first, new)
        if changed and trainer.step:
            log.warning("not bit for bit from here: %s", ", ".join(changed))
        again = [*again, new]
        new = first | {"resumed": again} | {k: new[k] for k in ("threads", "choices")}
    new |= {} if first.get("classes") else classes
    runs.write_json(run_dir / runs.RECORD, new)
