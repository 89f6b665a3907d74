"""Weights & Biases: the same numbers and pictures, offline until it is asked for more."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.loggers.background import require, say
from dltrain.loggers.hparams import hyperparameters

if TYPE_CHECKING:
    import numpy as np

KEY = "loggers.wandb"
MODES = ("offline", "online")
INIT_SEC, FINISH_SEC = 60, 120
ID = re.compile(r"run-\d{8}_\d{6}-([a-z0-9]{1,64})$")


class WandB:
    """Writes into the run's `wandb/`; `wandb sync` uploads what was logged offline.

    A run that goes on is the same run there, offline in a folder more: `wandb sync` uploads them
    one behind the other. Steps that the files (online: the server) have are left out, since a
    resumed run repeats them to the bit; what a kill has taken from W&B's process is logged again.

    Args:
        project: where runs are collected.
        mode: `offline` writes files alone; `online` needs a login, and goes offline without one or
            without a network.
        max_images: how many images of a batch a sheet shows.
    """

    def __init__(self, *, project: str, mode: str, max_images: int) -> None:
        if mode not in MODES:
            raise ValueError(f"{KEY}.mode is {mode!r}; it must be one of {', '.join(MODES)}")
        if max_images < 1:
            raise ValueError(f"{KEY}.max_images is {max_images}; it must be >= 1")
        require("wandb", KEY)
        self.project, self.mode, self.max_images = project, mode, max_images
        self._run: Any = None
        self._has_failed = False
        self._newest = -1  # the last step of before

    def start(
        self,
        run_dir: Path,
        *,
        config: dict[str, Any],
        resume_step: int | None,
        state: dict[str, Any] | None,
    ) -> None:
        """Goes on with the run whose folder is there, or that the checkpoint names."""
        self._id = str((state or {}).get("id") or _stored_id(run_dir) or secrets.token_hex(4))
        if not re.fullmatch("[a-z0-9]{1,64}", self._id):
            raise ValueError("the id of a run is letters and digits")
        self._newest = self._newest_step(run_dir)
        for mode in dict.fromkeys((self.mode, "offline")):
            try:
                self._run = self._init(run_dir, config, mode)
                self._newest = max(self._newest, getattr(self._run, "starting_step", 0) - 1)
                return
            except Exception as error:  # no login, no network, no service: whatever it may be
                say(KEY, error)
                _give_up()

    def _newest_step(self, run_dir: Path) -> int:
        from dltrain.loggers.wandb_files import newest_step

        try:
            return newest_step(run_dir, self._id)
        except Exception as error:  # of files that anybody may have made
            say(KEY, error)
            return -1

    def log_again(self, rows: Sequence[tuple[int, dict[str, float], float]]) -> None:
        for row in rows:
            self.log_scalars(*row)

    def _init(self, run_dir: Path, config: dict[str, Any], mode: str) -> Any:
        import wandb

        settings = wandb.Settings(
            silent=True, console="off", init_timeout=INIT_SEC, x_disable_stats=True,
            disable_git=True, save_code=False,
        )  # fmt: skip
        return wandb.init(
            project=self.project, dir=str(run_dir), name=run_dir.name, id=self._id, mode=mode,
            resume="allow" if mode == "online" else None, reinit="create_new",
            config=hyperparameters(config), allow_val_change=True, settings=settings,
        )  # fmt: skip

    def log_scalars(self, step: int, scalars: dict[str, float], wall_time: float) -> None:
        self._log(step, dict(scalars))

    def log_images(self, step: int, name: str, images: np.ndarray, wall_time: float) -> None:
        from dltrain.loggers.images import sheet

        self.log_picture(step, name, sheet(images, max_images=self.max_images), wall_time)

    def log_picture(self, step: int, name: str, picture: np.ndarray, wall_time: float) -> None:
        if self._run is not None:
            import wandb

            self._log(step, {name: wandb.Image(picture)})

    def log_text(self, step: int, name: str, text: str, wall_time: float) -> None:
        """The config is W&B's own; other text has no place there."""

    def flush(self) -> None:
        """Nothing: what is logged has gone to W&B's own process."""

    def sync(self) -> None:
        """Nothing: `metrics.jsonl` is what has to last."""

    def state_dict(self) -> dict[str, Any]:
        return {"id": self._id}

    def close(self, status: str, wall_time: float) -> None:
        """Waits for W&B's process two minutes at most: a network may be gone for good."""
        if self._run is None:
            return
        thread = threading.Thread(target=self._finish, args=(status,), daemon=True)
        thread.start()
        thread.join(FINISH_SEC)
        if thread.is_alive():
            say(KEY, TimeoutError(f"not uploaded after {FINISH_SEC} s; `wandb sync` does it later"))

    def _finish(self, status: str) -> None:
        try:
            self._run.summary["status"] = status
            self._run.finish(exit_code=0 if status == "completed" else 1)
        except Exception as error:
            say(KEY, error)

    def _log(self, step: int, values: dict[str, Any]) -> None:
        if self._run is None or step <= self._newest:
            return
        try:
            self._run.log(values, step=step)
        except Exception as error:
            if not self._has_failed:
                say(KEY, error)
            self._has_failed = True


def _give_up() -> None:
    """Ends W&B's process, to which the run that it could not begin would still be in use."""
    with suppress(Exception):
        import wandb

        wandb.teardown(exit_code=1)


def _stored_id(run_dir: Path) -> str | None:
    """Of a run that was killed before its first checkpoint."""
    found = (ID.search(path.name) for path in sorted((run_dir / "wandb").glob("*run-*")))
    return next((match[1] for match in found if match), None)
