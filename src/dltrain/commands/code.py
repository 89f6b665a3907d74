"""Which code a run is made by: the commit, what differs from it, digests of the source files."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import Any

MAX_DIFF_BYTES = 128 << 10
MAX_SOURCES = 10_000  # files of a package
TIMEOUT_SEC = 5
# Git without what writes (the index) or starts something (hooks)
SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
NO_LOCKS = {"GIT_OPTIONAL_LOCKS": "0"}


Sources = dict[str, dict[str, str]]  # package -> its files -> SHA-256 of each


def source_files(allowed: Sequence[str]) -> Sources:
    """The source files of dltrain and of the packages that were vouched for.

    Wherever they lie: the repository of the current folder need not be theirs.
    """
    names = ["dltrain", *(name.partition(".")[0] for name in allowed)]
    found = {name: files_of(name) for name in dict.fromkeys(names)}
    return {name: files for name, files in found.items() if files}


def files_of(name: str) -> dict[str, str]:
    """10 ms for the 200 files of dltrain; {} of what has no source."""
    try:
        spec = find_spec(name)
        if spec is None:
            return {}
        if spec.submodule_search_locations:
            return {
                file.relative_to(folder).as_posix(): digest_of(file)
                for folder in map(Path, spec.submodule_search_locations)
                for file in sorted(folder.rglob("*.py"))[:MAX_SOURCES]
            }
        is_file = spec.has_location and spec.origin
        return {f"{name}.py": digest_of(Path(str(spec.origin)))} if is_file else {}
    except (OSError, ValueError, ImportError):
        return {}


def digest_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def digest_together(files: Mapping[str, str]) -> str:
    lines = (f"{name}\0{digest}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def changed_files(old: Any, new: Any) -> list[str]:
    """Which files of a package differ between two records, one of which may be a stranger's."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return []
    return [
        name for name in sorted(old.keys() | new.keys(), key=str) if old.get(name) != new.get(name)
    ]


# ---------------------------------------------------------------------- git


def git_state(*, with_diff: bool = True) -> dict[str, Any] | None:
    """The commit of the current folder's repository, and how the tree differed; or None.

    diff: what `git diff HEAD` says, up to MAX_DIFF_BYTES of it; diff_digest: of all of it.
    """
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    if runs_programs():
        return {"commit": commit, "dirty": None}
    status = git("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
    state: dict[str, Any] = {"commit": commit, "dirty": None if status is None else bool(status)}
    if not status:
        return state
    found = git_diff()
    if found is not None:
        text, state["diff_digest"] = found
        state |= {"diff": text} if with_diff else {}
    return state


def git_diff() -> tuple[str, str] | None:
    """Its text, cut where it is long, and the SHA-256 of it whole; None where git fails."""
    command = ["git", *SAFE, "diff", "--no-ext-diff", "--no-textconv", "--no-color",
               "--ignore-submodules=all", "HEAD"]  # fmt: skip
    digest, head = hashlib.sha256(), b""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=os.environ | NO_LOCKS,
        )  # fmt: skip
    except OSError:
        return None
    timer = Timer(TIMEOUT_SEC, process.kill)
    timer.start()
    assert process.stdout is not None
    with process, process.stdout as pipe:
        while part := pipe.read(1 << 20):  # a changed file of gigabytes does not fill the memory
            digest.update(part)
            head += part[: max(0, MAX_DIFF_BYTES + 1 - len(head))]
    timer.cancel()
    if process.returncode != 0:
        return None
    text = head[:MAX_DIFF_BYTES].decode(errors="replace")
    return text + ("\n[cut here]\n" if len(head) > MAX_DIFF_BYTES else ""), digest.hexdigest()


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
    try:
        return subprocess.run(
            ["git", *SAFE, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SEC,
            stdin=subprocess.DEVNULL,
            env=os.environ | NO_LOCKS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
