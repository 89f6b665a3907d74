"""Scalars, images, text and hyperparameters for TensorBoard, in the run's own directory."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary

from dltrain.loggers import summaries
from dltrain.loggers.events import (
    EventFile,
    event_files,
    new_event_path,
    overwrite,
    read_records,
    truncate,
)
from dltrain.loggers.hparams import hyperparameters
from dltrain.loggers.thinning import Thinning

if TYPE_CHECKING:
    import numpy as np

EVALUATIONS = ("/val", "/test")  # of these every value is written, at once


class TensorBoard:
    """Writes `events.out.tfevents.*`; a run that goes on adds a file and never shows a step twice.

    Args:
        charts: metrics whose curves of all splits share one chart of the Custom Scalars tab.
        max_images: how many images of a batch a sheet shows.
        windows: of a curve of training, in which the least and the largest value are kept, each
            time that the number of steps has doubled; see `Thinning`. None keeps every value.
    """

    def __init__(
        self, *, charts: Sequence[str], max_images: int, windows: int | None = None
    ) -> None:
        if max_images < 1:
            raise ValueError(f"loggers.tensorboard.max_images is {max_images}; it must be >= 1")
        if windows is not None and windows < 1:
            raise ValueError(
                f"loggers.tensorboard.windows is {windows}; it must be >= 1, or null for all values"
            )
        self.charts = list(charts)
        self.max_images = max_images
        self.thinning = None if windows is None else Thinning(windows)

    def start(
        self,
        run_dir: Path,
        *,
        config: dict[str, Any],
        resume_step: int | None,
        state: dict[str, Any] | None,
    ) -> None:
        """Opens a new event file.

        `resume_step` and `state` are given where a run goes on: what was logged after the
        checkpoint vanishes from the disk, and from a TensorBoard that has already read it.
        """
        self._run_dir = run_dir
        if state and self.thinning and state.get("thinning"):
            self.thinning.load_state_dict(state["thinning"])
        existing = event_files(run_dir)
        kept = _rewind(existing, resume_step or 0, state)
        now = time.time()
        self._file = EventFile(new_event_path(run_dir, existing, now))
        self._write(Event(wall_time=now, file_version="brain.Event:2"))
        # A reader that is running drops what it has from this step on (torch's `purge_step`). It
        # ignores the first START that it sees, so the first file needs one as well.
        purge_step = (resume_step or 0) + 1 if kept else 0
        session_log = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=now, step=purge_step, session_log=session_log))
        text = _config_text(config)
        self._config_crc = zlib.crc32(text.encode())
        if not kept or (state and state.get("config_crc") != self._config_crc):
            self.log_text(resume_step or 0, "config", text, now)
        values = hyperparameters(config)
        if not (kept and _update_hyperparameters(event_files(run_dir), values)):
            self._write_value(0, summaries.session_start(values, now), now)
        if not kept:
            self._write_value(0, summaries.layout(self.charts), now)
        self.flush()

    def log_scalars(self, step: int, scalars: dict[str, float], wall_time: float) -> None:
        rows = [(step, wall_time, scalars)]
        if self.thinning and not all(tag.endswith(EVALUATIONS) for tag in scalars):
            rows = self.thinning.add(step, scalars, wall_time)
        for row in rows:
            self._write_scalars(*row)

    def log_images(self, step: int, name: str, images: np.ndarray, wall_time: float) -> None:
        """Writes uint8 [N, H, W, C], N >= 1, C = 1 or 3, as one sheet."""
        from dltrain.loggers.images import sheet  # imports numpy

        if images.dtype != "uint8" or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise ValueError(
                f"{name}: images are {images.dtype} {list(images.shape)}; "
                "they must be uint8 [N, H, W, C] with C = 1 or 3"
            )
        if len(images) == 0:
            raise ValueError(f"{name}: there is no image in the batch; give at least one")
        self.log_picture(step, name, sheet(images, max_images=self.max_images), wall_time)

    def log_picture(self, step: int, name: str, picture: np.ndarray, wall_time: float) -> None:
        """Writes one picture as it is, uint8 [H, W, C], C = 1 or 3."""
        from dltrain.loggers.images import encode

        value = summaries.image(name, picture, encode(picture))
        self._write_value(step, value, wall_time)

    def log_text(self, step: int, name: str, text: str, wall_time: float) -> None:
        """Writes markdown."""
        self._write_value(step, summaries.text(name, text), wall_time)

    def log_pr_curve(self, step: int, name: str, counts: np.ndarray, wall_time: float) -> None:
        """counts: [6, T]; true and false positives and negatives, precision, recall."""
        self._write_value(step, summaries.pr_curve(name, counts), wall_time)

    def log_histogram(self, step: int, name: str, buckets: np.ndarray, wall_time: float) -> None:
        """buckets: [N, 3]; left edge, right edge, count."""
        self._write_value(step, summaries.histogram(name, buckets), wall_time)

    def log_graph(self, graph: bytes, wall_time: float) -> None:
        """A serialized GraphDef."""
        self._write(Event(wall_time=wall_time, graph_def=graph))

    def log_embeddings(self, vectors: np.ndarray, labels: Sequence[str], images: Any) -> None:
        """vectors: float32 [N, D]. images: uint8 [N, H, W, C], or None. For the projector."""
        from dltrain.loggers.projector import write_projector

        write_projector(self._run_dir, vectors, labels, images)

    def flush(self) -> None:
        self._file.flush()

    def sync(self) -> None:
        self._file.sync()

    def state_dict(self) -> dict[str, Any]:
        file = self._file
        state = {"file": file.path.name, "offset": file.num_bytes, "config_crc": self._config_crc}
        return state | ({"thinning": self.thinning.state_dict()} if self.thinning else {})

    def close(self, status: str, wall_time: float) -> None:
        """`status` as in `summary.json`."""
        for row in self.thinning.drain("last") if self.thinning else ():
            self._write_scalars(*row)
        self._write_value(0, summaries.session_end(status, wall_time), wall_time)
        self._file.close()

    def _write_scalars(self, step: int, wall_time: float, scalars: dict[str, float]) -> None:
        values = [Summary.Value(tag=tag, simple_value=scalars[tag]) for tag in scalars]
        self._write(Event(wall_time=wall_time, step=step, summary=Summary(value=values)))

    def _write_value(self, step: int, value: Summary.Value, wall_time: float) -> None:
        self._write(Event(wall_time=wall_time, step=step, summary=Summary(value=[value])))

    def _write(self, event: Event) -> None:
        self._file.write(event.SerializeToString())


def _rewind(existing: list[Path], step: int, state: dict[str, Any] | None) -> bool:
    """Removes what was logged after a checkpoint; says whether anything is left.

    `state` is read from a file: it names one of `existing` or nothing, never another path.
    """
    if state is None and step == 0:
        for path in existing:
            path.unlink()
        return False
    for path in existing:
        if state is None:  # the checkpoint knew no TensorBoard: by the steps, then
            _truncate_after(path, step)
        elif path.name > state["file"]:
            path.unlink()
        elif path.name == state["file"]:
            truncate(path, state["offset"])
    return any(path.exists() for path in existing)


def _truncate_after(path: Path, step: int) -> None:
    """Cuts before the first event of a later step, and before a session's end."""
    for offset, data in read_records(path):
        event = Event.FromString(data)
        if event.step > step or any(v.tag == summaries.END_TAG for v in event.summary.value):
            return truncate(path, offset)


def _update_hyperparameters(paths: list[Path], values: dict[str, Any]) -> bool:
    """Writes those of a run that goes on over the old ones, where they differ; False without any.

    In their place, because readers take what they meet first; in as many bytes, because
    checkpoints hold offsets.
    """
    for path in paths:
        for offset, data in read_records(path):
            event = Event.FromString(data)
            if not any(value.tag == summaries.START_TAG for value in event.summary.value):
                continue
            (old,) = event.summary.value
            new = summaries.restarted(old, values)
            if new is not None:
                old.CopyFrom(new)
                overwrite(path, offset, event.SerializeToString())
            return True
    return False


def _config_text(config: dict[str, Any]) -> str:
    from dltrain.plain import to_yaml  # yaml: 0.02 s, and the import of omegaconf has usually paid

    return f"```yaml\n{to_yaml(config)}```"
