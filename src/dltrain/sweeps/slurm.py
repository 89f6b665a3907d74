"""What Slurm knows of jobs, asked of its own commands."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

TIMEOUT_SEC = 60
# Of a job that is listed for some time after its end
OVER = (
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "DEADLINE",
    "OUT_OF_MEMORY", "REVOKED",
)  # fmt: skip
ID = re.compile("[0-9]+(_[0-9]+)?")


def queued(ids: Sequence[str]) -> dict[str, str] | None:
    """Those of `ids` that wait or run, with their states; None where Slurm does not answer."""
    known = [each for each in ids if ID.fullmatch(each)]
    parents = sorted({each.split("_")[0] for each in known})
    if not parents:
        return {}
    # --array: one line a job, where pending ones of an array are shown as 12_[3-9] otherwise
    asked = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(parents)}"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=TIMEOUT_SEC)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:  # a job that has long ended is forgotten
        return {} if "Invalid job id" in done.stderr else None
    found = dict(line.split()[:2] for line in done.stdout.splitlines() if len(line.split()) > 1)
    return {each: found[each] for each in known if found.get(each, "COMPLETED") not in OVER}


def accounted(identity: str) -> str:
    """`TIMEOUT` or `OUT_OF_MEMORY`, as sacct has it; nothing where it keeps no account."""
    if not ID.fullmatch(identity):
        return ""
    asked = [
        "sacct",
        "--noheader",
        "--allocations",
        "--parsable2",
        "--format=State",
        "-j",
        identity,
    ]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=TIMEOUT_SEC)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.split("\n") if done.returncode == 0 else [""]
    return lines[0].strip()[:60] if lines[0].isprintable() else ""


def cancel(ids: Sequence[str], name: str) -> None:
    """SIGTERM to those that run, SIGKILL after Slurm's KillWait; those that wait are forgotten.

    Only jobs of that name: an id is what the sweep's ledger says, which anybody may have written.
    """
    known = [each for each in ids if ID.fullmatch(each)]
    for start in range(0, len(known), 500):  # a command line has its limits
        command = ["scancel", "--quiet", f"--name={name}", *known[start : start + 500]]
        try:
            subprocess.run(command, capture_output=True, timeout=TIMEOUT_SEC)
        except (OSError, subprocess.TimeoutExpired):
            return
