"""How many jobs run at once, and what each of them may use: a share of the cores, or a GPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from dltrain import cores
from dltrain.sweeps.ledger import JobRecord

AUTO = "auto"


@dataclass(frozen=True)
class Slots:
    """count: jobs at once; share: cores of each; gpus: what CUDA_VISIBLE_DEVICES is set to, in
    turn, for jobs that do not name their device."""

    count: int
    share: int
    gpus: list[str]

    def gpu(self, slot: int, job: JobRecord) -> str | None:
        if not self.gpus or device_of(job) not in ("auto", "cuda"):
            return None
        return self.gpus[slot % len(self.gpus)]

    def neighbours(self, job: JobRecord) -> int:
        """How many at once, with this one, take from the same memory."""
        if self.gpu(0, job) is None:
            return self.count
        return -(-self.count // len(self.gpus))

    def of(self, count: int) -> Slots:
        """At most `count` at once, with more cores for each."""
        return (
            Slots(count, max(1, cores.given() // count), self.gpus) if count < self.count else self
        )


def choose_slots(
    wanted: int | str, jobs: Sequence[JobRecord], gpus: Sequence[str], num_jobs: int = 0
) -> Slots:
    """`auto`: a job for each GPU where there are some and jobs that use them, else for each core.

    jobs: all of the sweep, done or not; num_jobs: how many there will be, where that is known. So
    the share of a job, and with it its number of threads and the roundings of its sums, do not
    depend on when the sweep was cut off.
    """
    used = list(gpus) if any(device_of(job) != "cpu" for job in jobs) else []
    most = (len(used) or cores.given()) if wanted == AUTO else int(wanted)
    count = max(1, min(most, max(num_jobs, len(jobs))))
    return Slots(count, max(1, cores.given() // count), used)


def device_of(job: JobRecord) -> str:
    return str(job.config["trainer"]["device"])


def gpu_names(count: int) -> list[str]:
    """What stands for each of the `count` GPUs that CUDA sees in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in visible.split(",")] if visible else map(str, range(count))
    return list(names)[:count]


def too_many_threads(slots: Slots, jobs: Sequence[JobRecord]) -> str | None:
    """A line of warning where jobs were given more threads than there are cores for all of them."""
    given = [job.config["trainer"]["threads"] for job in jobs]
    most = max((number for number in given if isinstance(number, int)), default=0)
    if most * slots.count <= cores.given() or slots.count == 1:
        return None
    return (
        f"{slots.count} jobs at once with trainer.threads={most} on {cores.given()} cores wait for "
        f"each other: trainer.threads=auto gives each its share, {slots.share}"
    )
