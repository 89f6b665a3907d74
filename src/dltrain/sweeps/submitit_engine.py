"""Jobs by submitit: on a Slurm cluster, or on this machine in the same way."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dltrain.errors import UserError
from dltrain.sweeps import slurm

ASK_EVERY_SEC = 20  # squeue costs Slurm's controller, which all users of a cluster share
FROM_OURS = {  # what sbatch calls them, and submitit's executor of Slurm
    "name": "job_name",
    "timeout_min": "time",
    "tasks_per_node": "ntasks_per_node",
}
OF_THE_EXECUTOR = ("max_num_timeout", "max_array_size", "mem_gb")


class SlurmEngine:
    """An array for each hand-over; the scheduler decides what runs when."""

    name, limit, outlives, near = "submitit_slurm", None, True, False
    shares_machine, keeps_output = False, True
    poll_sec, grace_sec = 2.0, 90.0

    def __init__(self, settings: Mapping[str, Any], at_once: int | None) -> None:
        self.settings, self.at_a_time = settings, int(settings["max_array_size"])
        self.parallelism = min(settings["array_parallelism"], at_once or 10**6)
        self._asked, self._known = -1e9, dict[str, str]()
        self._heard = set[str]()  # ids of which Slurm has said something

    def submit(self, works: Sequence[Callable[[], Any]], place: Path) -> list[str]:
        import submitit

        executor = submitit.SlurmExecutor(place, self.settings["max_num_timeout"])
        executor.update_parameters(**self.parameters())
        try:
            jobs = executor.submit_array(works)
        except submitit.core.utils.FailedJobError as error:
            raise UserError(f"sbatch refused the jobs: {' '.join(str(error).split())}") from None
        finally:
            for link in place.glob(".submission_file_*.sh"):
                link.unlink()
        ids = [str(job.job_id) for job in jobs]
        self._asked = time.monotonic()  # jobs that were just handed over are there
        self._known |= dict.fromkeys(ids, "PENDING")
        self._heard |= set(ids)
        return ids

    def parameters(self) -> dict[str, Any]:
        """The settings as submitit's executor has them; what is null is left to Slurm."""
        given = {k: v for k, v in self.settings.items() if v is not None}
        sent = {FROM_OURS.get(k, k): v for k, v in given.items() if k not in OF_THE_EXECUTOR}
        extra = given.get("additional_parameters", {})
        sent["additional_parameters"] = {k: v for k, v in extra.items() if v is not None}
        sent["array_parallelism"] = self.parallelism
        if "mem_gb" in given:
            sent["mem"] = f"{round(given['mem_gb'] * 1024)}MB"
        return sent

    def alive(self, ids: Sequence[str]) -> dict[str, str]:
        unheard = set(ids) - self._heard  # of an earlier start
        if unheard or time.monotonic() - self._asked > ASK_EVERY_SEC:
            found = slurm.queued(ids)
            self._asked = time.monotonic()
            if found is not None:  # otherwise nobody knows, and what was true is
                self._known = found
                self._heard |= set(ids)
            elif unheard:  # taken for ended, they would be handed over a second time
                raise UserError(
                    f"Slurm does not answer (squeue), and whether job {min(unheard)} waits or "
                    "runs there is not known; go on when it answers"
                )
        return {each: self._known[each] for each in ids if each in self._known}

    def ended(self, identity: str) -> str:
        state = slurm.accounted(identity)
        return f"Slurm has ended it: {state}" if state else "Slurm's queue has it no more"

    def cancel(self, ids: Sequence[str]) -> None:
        slurm.cancel(ids, self.settings["name"])
        self._asked = -1e9

    def log(self, identity: str, place: Path, number: int) -> Path:
        return place / f"{identity}_0_log.{'out' if self.settings['stderr_to_stdout'] else 'err'}"

    def forget(self, identity: str, place: Path) -> None:
        remove_pickles(identity, place)

    def close(self) -> None:
        """There is nothing to give back."""


class SubmititLocalEngine:
    """Each job below a process of submitit's, which starts it again when it asks for that.

    That process outlives this one. Its id is the job's.
    """

    name, outlives, near = "submitit_local", True, True
    shares_machine, keeps_output = True, True
    poll_sec, grace_sec = 0.2, 0.0

    def __init__(self, settings: Mapping[str, Any], at_once: int) -> None:
        self.settings, self.limit, self.at_a_time = settings, at_once, at_once
        self._jobs: dict[str, Any] = {}

    def submit(self, works: Sequence[Callable[[], Any]], place: Path) -> list[str]:
        import submitit

        executor = submitit.LocalExecutor(place, self.settings["max_num_timeout"])
        names = ("timeout_min", "signal_delay_s", "stderr_to_stdout")
        executor.update_parameters(**{name: self.settings[name] for name in names})
        with deaf():
            jobs = [executor.submit(work) for work in works]
        self._jobs |= {job.job_id: job for job in jobs}
        return [str(job.job_id) for job in jobs]

    def alive(self, ids: Sequence[str]) -> dict[str, str]:
        return {each: "RUNNING" for each in ids if self.is_alive(each)}

    def is_alive(self, identity: str) -> bool:
        job = self._jobs.get(identity)
        if job is not None:
            return bool(job.state == "RUNNING")
        return "submitit.local._local" in command_of(identity)

    def ended(self, identity: str) -> str:
        return "its process has ended without a result: killed, or out of memory"

    def cancel(self, ids: Sequence[str]) -> None:
        for each in ids:
            if self.is_alive(each):
                with suppress(OSError):
                    os.kill(int(each), signal.SIGTERM)  # which it hands on to the job

    def log(self, identity: str, place: Path, number: int) -> Path:
        return place / f"{identity}_0_log.{'out' if self.settings['stderr_to_stdout'] else 'err'}"

    def forget(self, identity: str, place: Path) -> None:
        remove_pickles(identity, place)

    def close(self) -> None:
        """There is nothing to give back."""


def remove_pickles(identity: str, place: Path) -> None:
    """What submitit sends and gets back: nobody reads it any more, and a pickle is a program."""
    for name in (f"{identity}_submitted.pkl", f"{identity}_0_result.pkl"):
        with suppress(OSError):
            (place / name).unlink()


@contextmanager
def deaf() -> Iterator[None]:
    """What is started here never hears of Ctrl-C, nor of the terminal being closed.

    A terminal sends both to all that was started from it. submitit's process would answer Ctrl-C
    with a second one for its job a moment after, which ends the job at once, and SIGKILL a second
    later. The job itself takes its signals when it begins.
    """
    numbers = (signal.SIGINT, signal.SIGHUP)
    try:
        before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    except ValueError:  # not the main thread: a notebook's
        yield
        return
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def command_of(identity: str) -> str:
    """The command line of a process, by its id; nothing where there is none."""
    if not identity.isdecimal() or int(identity) < 2:
        return ""
    with suppress(OSError):
        return Path(f"/proc/{identity}/cmdline").read_text(errors="replace")
    if Path("/proc/self").exists():
        return ""
    asked = ["ps", "-p", identity, "-o", "command="]  # macOS
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(asked, capture_output=True, text=True, timeout=10).stdout
    return ""
