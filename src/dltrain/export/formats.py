"""Traced models as files, and such files as functions again: torch.export's `.pt2`, and ONNX."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

METADATA = "dltrain.json"  # the name of the metadata within a .pt2
MAX_ONNX_BYTES = (1 << 31) - (1 << 20)  # of protobuf: one file holds no more

Function = Callable[[Tensor], Tensor]


# ---------------------------------------------------------------------- torch.export


def torch_bytes(program: Any, metadata: str) -> bytes:
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer, extra_files={METADATA: metadata})
    return buffer.getvalue()


def torch_function(path: Path) -> tuple[Function, str]:
    """A `.pt2` that this process has just written, as a function; and its metadata."""
    files = {METADATA: ""}
    with quiet(), open(path, "rb") as file:
        program = torch.export.load(io.BytesIO(file.read()), extra_files=files)
    return program.module(), files[METADATA]


# ---------------------------------------------------------------------- ONNX


def onnx_bytes(program: Any, output: str, metadata: Mapping[str, str], *, opset: int) -> bytes:
    """Raises ValueError where the exporter does not know an operation, or for over 2 GB."""
    weights = sum(t.numel() * t.element_size() for t in program.state_dict.values())
    if weights > MAX_ONNX_BYTES:
        raise ValueError(f"the weights have {weights:,} bytes; a file of ONNX holds 2 GiB at most")
    try:
        with quiet():
            made = torch.onnx.export(
                program,
                input_names=["input"],
                output_names=[output],
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # whatever an operation makes of the exporter
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"torch.onnx cannot export this model: {reason[:300]}") from error
    assert made is not None
    model = made.model_proto
    for node in [*model.graph.node, *(n for f in model.functions for n in f.node)]:
        del node.metadata_props[:]  # how the exporter came to it, paths of this machine among it
    for name, value in metadata.items():
        model.metadata_props.add(key=name, value=value)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def onnx_function(path: Path) -> tuple[Function, dict[str, str]]:
    """A `.onnx` as onnxruntime runs it on the CPU; and its metadata."""
    import onnx
    import onnxruntime

    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def function(inputs: Tensor) -> Tensor:
        found = session.run(None, {name: inputs.contiguous().numpy()})
        return torch.from_numpy(found[0])

    return function, dict(session.get_modelmeta().custom_metadata_map)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporters talk of their own internals, which the user cannot change."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
