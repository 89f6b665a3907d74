"""When a checkpoint is kept, written in the background, and which one a run goes on from."""

from __future__ import annotations

import logging
import math
import shlex
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from dltrain.engine.checkpoint import (
    MODEL,
    Checkpoint,
    DamagedError,
    by_value,
    clear_leftovers,
    read_checkpoint,
    remove_checkpoint,
    steps_in,
    write_checkpoint,
)
from dltrain.engine.tensors import nonfinite, snapshot
from dltrain.errors import CheckpointError, NonFiniteError, StorageError

log = logging.getLogger("dltrain")


class Saver:
    """Saves into `folder`, keeps the newest `keep` and the best by `monitor`.

    The training thread pays for a copy of the state; a thread writes, at most one at a time. Its
    failure is raised by the next `save` or `wait`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        monitor: str,
        mode: str,
        config_digest: str,
        sync_logs: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder, self.keep, self.monitor, self.mode = folder, keep, monitor, mode
        self.config_digest = config_digest
        self.sync_logs = sync_logs  # a checkpoint names how long they are: they come first
        self.best: dict[str, Any] | None = None  # {"step": int, "value": float}
        self.last_saved: int | None = None  # the step of the newest that was handed over
        self.durable: int | None = None  # the step of the newest that is on the disk
        self.exempt: set[str] = set()  # tensors that are not finite by design: a mask, say
        self.writer: threading.Thread | None = None
        self.failure: BaseException | None = None

    def is_better(self, step: int, metrics: dict[str, float]) -> bool:
        """Moves `best` where `metrics` are as good or better, which a NaN never is.

        Of equals the latest is the best: on a small validation set many are equal, and what has
        trained for longer generalises better (on the digits by 0.3 points of test accuracy).
        """
        value = metrics.get(self.monitor, math.nan)  # a metric of train may not be there yet
        sign = 1.0 if self.mode == "max" else -1.0
        if not self.is_sound(metrics) or (self.best and sign * value < sign * self.best["value"]):
            return False
        self.best = {"step": step, "value": value}
        return True

    def is_sound(self, metrics: dict[str, float]) -> bool:
        """Weights whose loss is NaN have an accuracy too, and are never the best by it."""
        split = self.monitor.partition("/")[2]
        watched = [v for name, v in metrics.items() if name.endswith(f"/{split}")]
        return not any(map(math.isnan, [metrics.get(self.monitor, math.nan), *watched]))

    def save(
        self, step: int, model: dict[str, Tensor], state: dict[str, Any], metrics: dict[str, float]
    ) -> None:
        """Copies everything now, and writes it while training goes on."""
        self.wait()
        copy = {"model": snapshot(model), "state": snapshot(state), "metrics": {}}
        if self.is_sound(metrics):
            copy["metrics"] = dict(metrics)
        self.last_saved = step
        self.writer = threading.Thread(target=self.write, args=(step, copy), name="checkpoint")
        self.writer.start()

    def write(self, step: int, copy: dict[str, Any]) -> None:
        try:
            bad = nonfinite(copy["model"]) - self.exempt
            if bad:
                raise NonFiniteError(
                    f"the weights of step {step:,} are not finite ({min(bad)}); not saved"
                )
            self.sync_logs()
            write_checkpoint(self.folder, step, config_digest=self.config_digest, **copy)
            self.durable = step
            self.remove_old()
        except BaseException as error:
            self.failure = error

    def wait(self) -> None:
        """Returns when what was saved is durable; raises what kept it from being so."""
        if self.writer is not None:
            self.writer.join()
            self.writer = None
        self.check()

    def check(self) -> None:
        """Raises what went wrong in the background, once."""
        if self.failure is None:
            return
        failure, self.failure = self.failure, None
        if isinstance(failure, StorageError):
            raise StorageError(f"{failure}\n{self.describe_last()}") from failure
        raise failure

    def describe_last(self) -> str:
        if self.durable is None:
            return "no checkpoint was saved yet"
        run = shlex.quote(str(self.folder.parent))
        return f"the last good checkpoint is that of step {self.durable:,}: `dltrain resume {run}`"

    def remove_old(self) -> None:
        paths = steps_in(self.folder)
        kept = {*paths[-self.keep :], *by_value(self.folder, self.monitor, self.mode)[:1]}
        for path in paths:
            if path not in kept:
                remove_checkpoint(path)

    # ------------------------------------------------------------------ going on

    def load_newest(self, saved: int | None = None) -> Checkpoint | None:
        """The newest good checkpoint; None where there never was one.

        Damaged ones are named, and set aside once an older one has been read. `saved` is a step of
        which somebody knows that it was saved. Raises CheckpointError where nothing is usable that
        once was there: nothing is silently started over. Only under the run's lock.
        """
        clear_leftovers(self.folder)
        damaged: list[Path] = []
        for path in reversed(steps_in(self.folder)):
            try:
                checkpoint = read_checkpoint(path)
            except DamagedError as error:
                log.warning("checkpoint %s is damaged: %s", path.name, error)
                damaged.append(path)
                continue
            set_aside(damaged)
            self.remove_old()  # a kill may have come before
            self.last_saved = self.durable = checkpoint.step
            return checkpoint
        lost = [path.name for path in damaged] + [p.name for p in self.folder.glob("damaged-*")]
        if lost:
            raise CheckpointError(
                f"no checkpoint in {self.folder} is usable: {', '.join(lost)}\n"
                "nothing was changed; for a new run from the start choose another directory\n"
                f"a finished run's tested weights are in {MODEL}: init_from={self.folder.parent}"
            )
        if saved is not None:
            raise CheckpointError(
                f"there is no checkpoint in {self.folder}, and one of step {saved:,} was saved\n"
                "put it back; for a new run from the start choose another directory"
            )
        return None

    def load_best(self) -> Checkpoint | None:
        """The best checkpoint by `monitor` that is not damaged; None where none was evaluated."""
        for path in by_value(self.folder, self.monitor, self.mode):
            try:
                return read_checkpoint(path)
            except DamagedError as error:
                log.warning("checkpoint %s is damaged: %s", path.name, error)
        return None


def set_aside(paths: list[Path]) -> None:
    for path in paths:
        place = path.with_name(f"damaged-{path.name}")
        number = 2
        while place.exists():
            place, number = path.with_name(f"damaged-{path.name}-{number}"), number + 1
        path.rename(place)
        log.warning("set aside as checkpoints/%s", place.name)
