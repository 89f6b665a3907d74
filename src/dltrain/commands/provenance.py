"""What made a run: `run.json`."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

EXACT = ("dltrain", "torch", "torchvision", "numpy")  # their arithmetic, and our order of it
PACKAGES = ("dltrain", "torch", "torchvision", "numpy", "hydra-core", "omegaconf", "safetensors")


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
    pairs = [(name, before.get(name), after[name]) for name in EXACT] if before else []
    pairs += [("device", kind_of(old.get("device")), kind_of(new["device"]))]
    pairs += [(name, old.get(name), new[name]) for name in ("threads", "precision")]
    return [f"{name} {old} -> {new}" for name, old, new in pairs if old not in (None, new)]


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
