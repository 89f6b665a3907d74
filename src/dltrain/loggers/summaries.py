"""Values as TensorBoard's plugins want them, one function a plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

# These generated modules cost 0.03 s together. `tensorboard.summary` and whatever imports
# `tensorboard.compat.tensorflow_stub` cost 0.2 s more, `torch.utils.tensorboard` more than that.
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_STRING
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)

if TYPE_CHECKING:
    import numpy as np

START_TAG = "_hparams_/session_start_info"
END_TAG = "_hparams_/session_end_info"
LAYOUT_TAG = "custom_scalars__config__"
STATUS = {"completed": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}
ROOM_BYTES = 1024  # left in the record of hyperparameters, for those of a run that goes on
PADDING = 0x7A  # a field that the protocol does not know, 15, of bytes; readers skip it


def metadata(plugin: str, content: bytes = b"") -> SummaryMetadata:
    data = SummaryMetadata.PluginData(plugin_name=plugin, content=content)
    return SummaryMetadata(plugin_data=data)


def text(tag: str, markdown: str) -> Summary.Value:
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype=DT_STRING, tensor_shape=shape, string_val=[markdown.encode()])
    return Summary.Value(tag=tag, tensor=tensor, metadata=metadata("text"))


def image(tag: str, picture: np.ndarray, encoded: bytes) -> Summary.Value:
    height, width, colorspace = picture.shape  # 1 gray, 3 RGB
    value = Summary.Image(height=height, width=width, colorspace=colorspace)
    value.encoded_image_string = encoded
    return Summary.Value(tag=tag, image=value)


def numbers(tag: str, values: np.ndarray, plugin: str, content: bytes = b"") -> Summary.Value:
    """A float32 tensor of one of the plugins that show tensors."""
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in values.shape])
    tensor = TensorProto(dtype=DT_FLOAT, tensor_shape=shape)
    tensor.tensor_content = values.astype("<f4").tobytes()
    return Summary.Value(tag=tag, tensor=tensor, metadata=metadata(plugin, content))


def pr_curve(tag: str, counts: np.ndarray) -> Summary.Value:
    """counts: [6, T], as tensorboard/plugins/pr_curve/metadata.py has their order."""
    from tensorboard.plugins.pr_curve.plugin_data_pb2 import PrCurvePluginData

    content = PrCurvePluginData(num_thresholds=counts.shape[1]).SerializeToString()
    return numbers(tag, counts, "pr_curves", content)


def histogram(tag: str, buckets: np.ndarray) -> Summary.Value:
    """buckets: [N, 3]; left edge, right edge, count."""
    return numbers(tag, buckets, "histograms")


def layout(metrics: Sequence[str]) -> Summary.Value:
    """One chart a metric, its splits together."""
    charts = [
        Chart(title=name, multiline={"tag": [f"^{name}/(train|val|test)$"]}) for name in metrics
    ]
    content = Layout(category=[Category(title="train, val and test", chart=charts)])
    tensor = TensorProto(dtype=DT_STRING, string_val=[content.SerializeToString()])
    tensor.tensor_shape.SetInParent()  # a scalar
    return Summary.Value(tag=LAYOUT_TAG, tensor=tensor, metadata=metadata("custom_scalars"))


def session_start(values: dict[str, Any], start_sec: float, *, size: int = 0) -> Summary.Value:
    """One session, and no `experiment` summary.

    Without one, TensorBoard collects the names of all runs below its log directory, and takes the
    metrics from the scalars. With one, it shows only the names of the first it finds.

    It takes a run's hyperparameters from where it meets them first, too. So the record has room to
    be written anew in its place, as content of `size` bytes; 0 chooses one. What finds no room, the
    last ones, is left out.
    """
    names = list(values)
    while True:
        info = SessionStartInfo(start_time_secs=start_sec)
        for name in names:
            kind = {bool: "bool_value", str: "string_value"}.get(type(values[name]), "number_value")
            setattr(info.hparams[name], kind, values[name])
        # Maps have no order: of equal values the bytes shall be equal
        content = HParamsPluginData(session_start_info=info).SerializeToString(deterministic=True)
        if not size or len(content) + 4 <= size or not names:
            break
        names.pop()
    target = size or (len(content) // ROOM_BYTES + 2) * ROOM_BYTES
    content = padded(content, target)
    return Summary.Value(tag=START_TAG, metadata=metadata("hparams", content))


def padded(content: bytes, size: int) -> bytes:
    """A message made `size` bytes long: an unknown field, its length as a varint of three bytes."""
    length = size - len(content) - 4
    if length < 0:
        return content
    varint = bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14])
    return content + bytes([PADDING]) + varint + bytes(length)


def session_end(status: str, end_sec: float) -> Summary.Value:
    """`status` as in `summary.json`; HPARAMS knows success, failure, and unknown."""
    info = SessionEndInfo(status=STATUS.get(status, api_pb2.STATUS_UNKNOWN), end_time_secs=end_sec)
    content = HParamsPluginData(session_end_info=info).SerializeToString()
    return Summary.Value(tag=END_TAG, metadata=metadata("hparams", content))


def restarted(old: Summary.Value, values: dict[str, Any]) -> Summary.Value | None:
    """`old`, a session's start, with other hyperparameters in as many bytes; None where it fits."""
    content = old.metadata.plugin_data.content
    start_sec = HParamsPluginData.FromString(content).session_start_info.start_time_secs
    new = session_start(values, start_sec, size=len(content))
    same_size = len(new.metadata.plugin_data.content) == len(content)
    return new if same_size and new != old else None
