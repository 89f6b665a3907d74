"""What a key of the config can change: one table, for resume, rerun, compare and HPARAMS alike.

A name stands for itself and for all below it: `loggers` for `loggers.tensorboard.charts`.
"""

from __future__ import annotations

from collections.abc import Iterable

# Where things lie, and what they are called
PLACES = (
    *("name", "resume", "dataset.root", "dataset.download"),
    *("dataset.cache", "dataset.cache_limit_gb"),
)
# On which machine: the same sums, whose last bits may differ on another
MACHINE = ("trainer.device", "trainer.threads", "loader.num_workers", "loader.placement")
# What is told of a run, and kept of it
TOLD = ("loggers", "callbacks.progress", "callbacks.profiler", "callbacks.histograms",
        "callbacks.graph", "callbacks.embeddings", "checkpoint.keep")  # fmt: skip
ROWS = ("trainer.log_every",)  # how many rows there are, not what comes out
BUDGET = ("trainer.budget", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time")

# Two runs that differ in these alone have the same rows of numbers (as with the same machine)
NO_NUMBER = (*PLACES, *MACHINE, *TOLD)
# ... and in these the same result
NO_RESULT = (*NO_NUMBER, *ROWS)
# What may change when a run goes on; its threads are those of its start
MAY_GO_ON = (*(key for key in NO_RESULT if key != "trainer.threads"), *BUDGET, "checkpoint.every")
# What may be typed when a run is made again
MAY_BE_REMADE = (*(key for key in PLACES if key != "resume"), *MACHINE, "loggers")

# Last names of keys that state what the data are
FACTS_OF_DATA = frozenset(("num_classes", "image_shape", "input_shape", "mean", "std"))


def covers(names: Iterable[str], key: str) -> bool:
    """Whether `key` is one of `names`, or below one."""
    return any(key == name or key.startswith(f"{name}.") for name in names)
