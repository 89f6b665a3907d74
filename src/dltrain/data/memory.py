"""How much memory made-up data may take: an error is better than being killed."""

import os
from contextlib import suppress
from pathlib import Path


def check_memory(num_bytes: int, keys: str) -> None:
    """Raises ValueError if this machine has no num_bytes of memory. `keys` say what asks for it."""
    limit = memory_limit()
    if num_bytes > limit:
        raise ValueError(
            f"{keys} ask for {_size(num_bytes)} of memory; this machine has {_size(limit)}. "
            "Choose smaller ones"
        )


def memory_limit() -> int:
    """Bytes of memory of this machine, or of the container that this process runs in."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no Linux, no such container, or the word `max`
        limit = min(limit, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return limit


def available_memory() -> int:
    """Bytes that can be had now, as far as the kernel can tell; all there are, where it cannot."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            numbers = dict(line.split(":") for line in file)
        return min(memory_limit(), 1024 * int(numbers["MemAvailable"].split()[0]))
    except (OSError, ValueError, KeyError):
        return memory_limit()


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"
