"""Scalars, images, text and hyperparameters for TensorBoard, in the run's own directory."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# These generated modules cost 0.03 s together. `tensorboard.summary` and whatever imports
# `tensorboard.compat.tensorflow_stub` cost 0.2 s more, `torch.utils.tensorboard` more than that.
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)

from dltrain.loggers.events import EventFile, event_files, new_event_path, read_records, truncate
from dltrain.loggers.hparams import hyperparameters

if TYPE_CHECKING:
    import numpy as np

START_TAG = "_hparams_/session_start_info"
END_TAG = "_hparams_/session_end_info"
LAYOUT_TAG = "custom_scalars__config__"
STATUS = {"completed": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}


class TensorBoard:
    """Writes `events.out.tfevents.*`; a run that goes on adds a file and never shows a step twice.

    Args:
        charts: metrics whose curves of all splits share one chart of the Custom Scalars tab.
        max_images: how many images of a batch a sheet shows.
    """

    def __init__(self, *, charts: Sequence[str], max_images: int) -> None:
        if max_images < 1:
            raise ValueError(f"loggers.tensorboard.max_images is {max_images}; it must be >= 1")
        self.charts = list(charts)
        self.max_images = max_images

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
        if not kept:
            self._write_hyperparameters(config, now)
            self._write_layout(now)
        self.flush()

    def log_scalars(self, step: int, scalars: dict[str, float], wall_time: float) -> None:
        values = [Summary.Value(tag=tag, simple_value=scalars[tag]) for tag in scalars]
        self._write(Event(wall_time=wall_time, step=step, summary=Summary(value=values)))

    def log_images(self, step: int, name: str, images: np.ndarray, wall_time: float) -> None:
        """Writes uint8 [N, H, W, C], N >= 1, C = 1 or 3, as one sheet."""
        from dltrain.loggers.images import encode_png, sheet  # imports numpy

        if images.dtype != "uint8" or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise ValueError(
                f"{name}: images are {images.dtype} {list(images.shape)}; "
                "they must be uint8 [N, H, W, C] with C = 1 or 3"
            )
        if len(images) == 0:
            raise ValueError(f"{name}: there is no image in the batch; give at least one")
        picture = sheet(images, max_images=self.max_images)
        height, width, colorspace = picture.shape  # 1 gray, 3 RGB
        image = Summary.Image(height=height, width=width, colorspace=colorspace)
        image.encoded_image_string = encode_png(picture)
        self._write_value(step, Summary.Value(tag=name, image=image), wall_time)

    def log_text(self, step: int, name: str, text: str, wall_time: float) -> None:
        """Writes markdown."""
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype=DT_STRING, tensor_shape=shape, string_val=[text.encode()])
        value = Summary.Value(tag=name, tensor=tensor, metadata=_metadata("text"))
        self._write_value(step, value, wall_time)

    def flush(self) -> None:
        self._file.flush()

    def sync(self) -> None:
        self._file.sync()

    def state_dict(self) -> dict[str, Any]:
        file = self._file
        return {"file": file.path.name, "offset": file.num_bytes, "config_crc": self._config_crc}

    def close(self, status: str, wall_time: float) -> None:
        """`status` as in `summary.json`; HPARAMS knows success, failure, and unknown."""
        info = SessionEndInfo(
            status=STATUS.get(status, api_pb2.STATUS_UNKNOWN), end_time_secs=wall_time
        )
        self._write_plugin(END_TAG, HParamsPluginData(session_end_info=info), wall_time)
        self._file.close()

    def _write_hyperparameters(self, config: dict[str, Any], now: float) -> None:
        """One session, and no `experiment` summary.

        Without one, TensorBoard collects the names of all runs below its log directory, and
        takes the metrics from the scalars. With one, it shows only the names of the first it finds.
        """
        info = SessionStartInfo(start_time_secs=now)
        for name, value in hyperparameters(config).items():
            kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
            setattr(info.hparams[name], kind, value)
        self._write_plugin(START_TAG, HParamsPluginData(session_start_info=info), now)

    def _write_layout(self, now: float) -> None:
        charts = [
            Chart(title=name, multiline={"tag": [f"^{name}/(train|val|test)$"]})
            for name in self.charts
        ]
        layout = Layout(category=[Category(title="train and val", chart=charts)])
        tensor = TensorProto(dtype=DT_STRING, string_val=[layout.SerializeToString()])
        tensor.tensor_shape.SetInParent()  # a scalar
        value = Summary.Value(tag=LAYOUT_TAG, tensor=tensor, metadata=_metadata("custom_scalars"))
        self._write_value(0, value, now)

    def _write_plugin(self, tag: str, data: HParamsPluginData, wall_time: float) -> None:
        metadata = _metadata("hparams", data.SerializeToString())
        self._write_value(0, Summary.Value(tag=tag, metadata=metadata), wall_time)

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
    for offset, data in read_records(path):
        if Event.FromString(data).step > step:
            return truncate(path, offset)


def _config_text(config: dict[str, Any]) -> str:
    import yaml  # 0.02 s, and the import of omegaconf has usually paid for it

    return f"```yaml\n{yaml.safe_dump(config, sort_keys=False, allow_unicode=True)}```"


def _metadata(plugin: str, content: bytes = b"") -> SummaryMetadata:
    data = SummaryMetadata.PluginData(plugin_name=plugin, content=content)
    return SummaryMetadata(plugin_data=data)
