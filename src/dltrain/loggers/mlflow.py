"""MLflow: the same numbers and pictures in a tracking server, or in a database file."""

from __future__ import annotations

import logging
import math
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.loggers.background import Background, require
from dltrain.loggers.hparams import hyperparameters

if TYPE_CHECKING:
    import numpy as np

KEY = "loggers.mlflow"
LOCAL = "sqlite:///outputs/mlflow.db"
STATUS = {"completed": "FINISHED", "failed": "FAILED"}
START_SEC, CLOSE_SEC = 30, 60
MAX_PARAMS = 100  # of one request


class MLflow:
    """One MLflow run a run, which goes on where the run goes on; from a thread of its own.

    A run that is killed leaves a server without what was still to be sent; when it goes on, the
    rows that are missing are sent, and none twice.

    Args:
        experiment: under which runs are collected.
        tracking_uri: a server or a database; None is MLFLOW_TRACKING_URI, or without that
            `outputs/mlflow.db`, which `mlflow ui --backend-store-uri` shows.
        max_images: how many images of a batch a sheet shows.
    """

    def __init__(self, *, experiment: str, tracking_uri: str | None, max_images: int) -> None:
        if max_images < 1:
            raise ValueError(f"{KEY}.max_images is {max_images}; it must be >= 1")
        require("mlflow", KEY)
        self.experiment, self.max_images = experiment, max_images
        self.tracking_uri = tracking_uri
        self._run_id: str | None = None
        self._is_started = threading.Event()
        self._seen: dict[str, set[int]] = {}  # the steps of each metric that the server has

    def start(
        self,
        run_dir: Path,
        *,
        config: dict[str, Any],
        resume_step: int | None,
        state: dict[str, Any] | None,
    ) -> None:
        """Nothing fails here: MLflow is imported, and asked, by the thread."""
        wanted = (state or {}).get("run_id")
        if wanted is not None and not re.fullmatch("[0-9a-f]{32}", str(wanted)):
            raise ValueError("the id of an MLflow run has 32 hexadecimal digits")
        # Of an absent server be told within seconds, not minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self._uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or LOCAL
        self._background = Background(KEY)
        self._background.call(self._start, run_dir, hyperparameters(config), wanted)

    def log_scalars(self, step: int, scalars: dict[str, float], wall_time: float) -> None:
        self._background.call(self._log, step, dict(scalars), wall_time)

    def log_again(self, rows: Sequence[tuple[int, dict[str, float], float]]) -> None:
        """What a kill has taken from the thread is missing on the server."""
        self._background.call(self._log_again, rows)

    def log_images(self, step: int, name: str, images: np.ndarray, wall_time: float) -> None:
        from dltrain.loggers.images import sheet

        self.log_picture(step, name, sheet(images, max_images=self.max_images), wall_time)

    def log_picture(self, step: int, name: str, picture: np.ndarray, wall_time: float) -> None:
        self._background.call(self._log_picture, name, picture)

    def log_text(self, step: int, name: str, text: str, wall_time: float) -> None:
        """MLflow has the config as parameters."""

    def flush(self) -> None:
        """Nothing: the thread is on its way."""

    def sync(self) -> None:
        """Nothing: `metrics.jsonl` is what has to last."""

    def state_dict(self) -> dict[str, Any]:
        """The first checkpoint may have to wait for an id, half a minute at most."""
        self._is_started.wait(START_SEC)
        return {"run_id": self._run_id}

    def close(self, status: str, wall_time: float) -> None:
        self._background.call(self._end, STATUS.get(status, "KILLED"), wall_time)
        self._background.finish(CLOSE_SEC)

    # ------------------------------------------------------------------ in the thread

    def _start(self, run_dir: Path, values: dict[str, Any], wanted: str | None) -> None:
        try:
            for name in ("mlflow", "alembic"):  # which tell of every table that they make
                logging.getLogger(name).setLevel(logging.WARNING)
            from mlflow.tracking import MlflowClient

            if self._uri == LOCAL:
                Path("outputs").mkdir(exist_ok=True)
            self._client = MlflowClient(self._uri)
            if wanted is None or not self._go_on(wanted, values):
                self._begin(run_dir, values)
        finally:
            self._is_started.set()

    def _begin(self, run_dir: Path, values: dict[str, Any]) -> None:
        from mlflow.entities import Param

        found = self._client.get_experiment_by_name(self.experiment)
        place = Path("outputs/mlflow").absolute().as_uri() if self._uri == LOCAL else None
        experiment = (
            found.experiment_id
            if found
            else self._client.create_experiment(self.experiment, artifact_location=place)
        )
        run_id = self._client.create_run(experiment, run_name=run_dir.name).info.run_id
        params = [Param(key, str(value)) for key, value in values.items()]
        for start in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(run_id, params=params[start : start + MAX_PARAMS])
        self._run_id = run_id

    def _go_on(self, run_id: str, values: dict[str, Any]) -> bool:
        """False where the store does not have it: a database of another folder, say.

        MLflow's parameters cannot be changed: what differs becomes a tag.
        """
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
        except MlflowException:
            return False
        self._client.update_run(run_id, status="RUNNING")
        for key, value in values.items():
            if run.data.params.get(key) != str(value):
                self._client.set_tag(run_id, f"changed.{key}", str(value))
        for name in run.data.metrics:
            history = self._client.get_metric_history(run_id, name)
            self._seen[name] = {metric.step for metric in history}
        self._run_id = run_id
        return True

    def _log(self, step: int, scalars: dict[str, float], wall_time: float) -> None:
        """A point that was logged before a crash, and is reached again, is there already."""
        if self._run_id is None:
            return
        from mlflow.entities import Metric

        new = {
            name: value
            for name, value in scalars.items()
            if step not in self._seen.get(name, ()) and not math.isnan(value)
        }
        metrics = [Metric(name, value, int(wall_time * 1000), step) for name, value in new.items()]
        if metrics:
            self._client.log_batch(self._run_id, metrics=metrics)

    def _log_again(self, rows: Sequence[tuple[int, dict[str, float], float]]) -> None:
        for row in rows:
            self._log(*row)

    def _log_picture(self, name: str, picture: np.ndarray) -> None:
        if self._run_id is not None:
            self._client.log_image(self._run_id, picture, artifact_file=f"{name}.png")

    def _end(self, status: str, wall_time: float) -> None:
        if self._run_id is not None:
            self._client.set_terminated(self._run_id, status, int(wall_time * 1000))
