"""A run -> one file for other tools, compared with the run itself before it has its name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain import __version__
from dltrain.durable import sync_folder, write_parts
from dltrain.errors import DltrainError, UserError
from dltrain.trained import TrainedRun, make_model

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

ENDINGS = {"safetensors": ".safetensors", "torch": ".pt2", "onnx": ".onnx"}
BATCH_SIZES = (1, 2, 7)
TOLERANCE = 1e-5  # of a probability
OPSET = 18  # of ONNX: the first that has all that our models use, so that old runtimes read it


@dataclass(frozen=True)
class Export:
    """What was written. difference: the largest of any probability; num_compared: samples."""

    path: Path
    num_bytes: int
    metadata: dict[str, Any]
    difference: float
    num_compared: int


def export_run(
    run: TrainedRun,
    path: Path,
    *,
    format: str,
    preprocess: bool = False,
    real: numpy.ndarray | None = None,
    tolerance: float = TOLERANCE,
    allowed: Any = (),
    config: dict[str, Any] | None = None,
) -> Export:
    """Writes `path`, whole or not at all: only what has been read back and gives the same.

    format: of ENDINGS. preprocess: normalisation and softmax become part of the graph. real:
    samples of the run's dataset, compared beside random ones. The run must be on the CPU, in fp32;
    config: what the file says of it, where that is not its own config.
    Raises UserError for what cannot be exported, and DltrainError where the file gives others.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    wanted = metadata(run, preprocess=preprocess, format=format)
    wanted["config"] = config or run.config
    try:
        size = write(run, temporary, format, wanted, preprocess)
        function, found = read(run, temporary, format, allowed)
        if found != (wanted if format == "torch" else texts(wanted)):
            raise DltrainError("the metadata did not come back as they were written")
        batches = batches_of(run, real)
        differences = [difference_of(run, function, each, preprocess) for each in batches]
        difference = max(differences)
        if not all(each <= tolerance for each in differences):  # nor is a NaN
            raise DltrainError(
                f"the exported model gives other probabilities than the run, by up to "
                f"{difference:.1e} (tolerance={tolerance:g}); nothing was written"
            )
        os.replace(temporary, path)
        sync_folder(path.parent)
    except ValueError as error:
        raise UserError(str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return Export(path, size, wanted, difference, sum(map(len, batches)))


# ---------------------------------------------------------------------- the file


def write(
    run: TrainedRun, path: Path, format: str, described: dict[str, Any], preprocess: bool
) -> int:
    """The size in bytes."""
    from dltrain.engine.tensors import write_tensors

    if format == "safetensors":
        return write_tensors(path, run.model.state_dict(), texts(described))[0]
    from dltrain.export.formats import onnx_bytes, torch_bytes
    from dltrain.export.graph import EXAMPLE_BATCH, Logits, Probabilities, trace

    predict = getattr(run.task, "predict", None) or (lambda model, inputs: model(inputs))
    module: Any = Logits(run.model, predict)
    samples = random_samples(run, EXAMPLE_BATCH, seed=0)
    if preprocess:
        facts = run.config["dataset"]
        module = Probabilities(
            run.model,
            predict,
            mean=facts["mean"],
            std=facts["std"],
            sample_shape=run.preprocessing.shape,
            unit=255.0 if run.preprocessing.is_image else 1.0,
        )
    program = trace(module, as_input(run, samples, preprocess))
    if format == "torch":
        return write_parts(path, [torch_bytes(program, json.dumps(described))])[0]
    content = onnx_bytes(program, module.output, texts(described), opset=OPSET)
    return write_parts(path, [content])[0]


def read(
    run: TrainedRun, path: Path, format: str, allowed: Any
) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    """What the file is to somebody who has nothing else: a function, and its metadata."""
    if format == "safetensors":
        return read_weights(run, path, allowed)
    from dltrain.export.formats import onnx_function, torch_function

    if format == "onnx":
        return onnx_function(path)
    function, text = torch_function(path)
    return function, json.loads(text)


def read_weights(
    run: TrainedRun, path: Path, allowed: Any
) -> tuple[Callable[[Tensor], Tensor], dict[str, str]]:
    """The model that the config in the metadata makes, with the weights beside it."""
    from dltrain.engine.tensors import read_metadata, read_tensors

    found = read_metadata(path)
    model = make_model(json.loads(found["config"]), run.device, allowed).eval()
    model.load_state_dict(read_tensors(path))
    predict = getattr(run.task, "predict", None) or (lambda model, inputs: model(inputs))
    return lambda inputs: predict(model, inputs), found


def metadata(run: TrainedRun, *, preprocess: bool, format: str) -> dict[str, Any]:
    """What a reader needs beside the weights."""
    size = list(run.preprocessing.shape)
    shape = ", ".join(map(str, [*size[1:], size[0]] if preprocess and len(size) == 3 else size))
    pixels = preprocess and run.preprocessing.is_image
    found: dict[str, Any] = {
        "dltrain": __version__,
        "input": f"{'uint8' if pixels else 'float32'} [N, {shape}]",
        "output": f"{'probabilities' if preprocess else 'logits'} [N, {len(run.classes)}]",
        "preprocessing": preprocessing_of(run, in_graph=preprocess),
        "classes": run.classes,
        "weights": {
            "name": run.weights.name, "step": run.weights.step, "ema": run.weights.ema,
        },
        "config": run.config,
    }  # fmt: skip
    return {"format": "pt"} | found if format == "safetensors" else found


def texts(described: dict[str, Any]) -> dict[str, str]:
    """For formats whose metadata are text by name: what is none, as JSON."""
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in described.items()}


def preprocessing_of(run: TrainedRun, *, in_graph: bool) -> dict[str, Any]:
    """What is done to a picture before the graph, in order, and whether its end is in the graph."""
    facts = run.config["dataset"]
    common = {"mean": facts["mean"], "std": facts["std"], "normalise_in_graph": in_graph}
    if not run.preprocessing.is_image:
        return {"input": "features", "num_features": run.preprocessing.shape[0], **common}
    channels, height, width = run.preprocessing.shape
    found = {
        "input": "image",
        "channels": "RGB" if channels == 3 else "gray (ITU-R 601)",
        "size": [height, width],
        "resize": "bilinear, antialiased",
        "input_range": [0, 255],
        "scale": 1 / 255,
        **common,
    }
    if (fraction := facts.get("crop_fraction")) is not None:
        found |= {"resize_shorter_side_to": round(height / fraction), "center_crop": height}
    return found


# ---------------------------------------------------------------------- the comparison


def batches_of(run: TrainedRun, real: numpy.ndarray | None) -> list[numpy.ndarray]:
    """Samples as a dataset holds them, in batches of several sizes."""
    batches = [random_samples(run, size, seed=size) for size in BATCH_SIZES]
    return batches + ([real] if real is not None and len(real) else [])


def random_samples(run: TrainedRun, size: int, *, seed: int) -> numpy.ndarray:
    import numpy

    generator = numpy.random.default_rng(seed)
    shape = (size, *run.preprocessing.shape)
    if run.preprocessing.is_image:
        return generator.integers(0, 256, shape, numpy.uint8)
    return generator.standard_normal(shape, numpy.float32)


def as_input(run: TrainedRun, samples: numpy.ndarray, preprocess: bool) -> Tensor:
    import torch

    if not preprocess:
        return run.preprocessing.normalise(samples)
    inputs = torch.from_numpy(samples)
    return inputs.movedim(1, -1).contiguous() if run.preprocessing.is_image else inputs


def difference_of(
    run: TrainedRun, function: Callable[[Tensor], Tensor], samples: numpy.ndarray, preprocess: bool
) -> float:
    """The largest of any probability."""
    import torch

    expected = run.probabilities(run.preprocessing.normalise(samples))
    with torch.no_grad():
        found = function(as_input(run, samples, preprocess))
    found = found if preprocess else found.float().softmax(1)
    if found.shape != expected.shape:
        raise DltrainError(
            f"the exported model gives {list(found.shape)} for a batch of {len(samples)}, and not "
            f"{list(expected.shape)}; nothing was written"
        )
    return float((found - expected).abs().max())


def real_samples(run: TrainedRun, inputs: Any, count: int = 16) -> numpy.ndarray | None:
    """The first of a split of the run's dataset; None where they are not what the run takes."""
    import numpy

    shape, count = run.preprocessing.shape, min(count, len(inputs))
    dtype = numpy.uint8 if run.preprocessing.is_image else numpy.float32
    if tuple(inputs.shape[-len(shape) :]) != shape or inputs.dtype != dtype:
        return None
    if isinstance(inputs, numpy.ndarray):
        return numpy.array(inputs[:count])
    samples = numpy.empty((count, *shape), dtype)
    for index in range(count):
        inputs.read(index, samples[index])
    return samples
