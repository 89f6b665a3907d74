"""Tensors on the disk: safetensors, and trees of state as tensors and JSON. No pickle anywhere."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dltrain.durable import write_parts

# A header has about 100 bytes a tensor; the library takes 100 MB, which unfold to gigabytes
MAX_HEADER_BYTES = 4 << 20
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


# ---------------------------------------------------------------------- safetensors


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> tuple[int, str]:
    """Writes a safetensors file, in name order so that equal weights are equal bytes; and syncs it.

    Gives its size and SHA-256. Raises ValueError for metadata that are too long to be read. The
    format (github.com/huggingface/safetensors): length of the header in 8 bytes, the header as
    JSON padded to 8, then the raw tensors. Written here, and not by the library, because that
    copies every tensor twice and hides the file that has to be synced and hashed.
    """
    header: dict[str, Any] = {"__metadata__": metadata or {"format": "pt"}}
    parts, offset = [], 0
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{name} is of {tensor.dtype}, which a checkpoint cannot hold")
        size = num_bytes(tensor)
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        parts.append(tensor.reshape(-1).view(torch.uint8).numpy().data if size else b"")
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"the header has {len(text):,} bytes; {MAX_HEADER_BYTES:,} can be read")
    return write_parts(path, [len(text).to_bytes(8, "little"), text, *parts])


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file, by the library that checks its header. Raises ValueError and OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, MAX_HEADER_BYTES):
        raise ValueError(f"{path.name} has no header of a safetensors file")
    try:
        return load_file(path)
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise ValueError(f"{path.name} is no safetensors file: {error}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Of a file that `read_tensors` takes."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def nonfinite(tensors: dict[str, Tensor]) -> set[str]:
    """The names of those that hold a NaN or an infinity."""
    floating = {name: t for name, t in tensors.items() if t.is_floating_point()}
    return {name for name, tensor in floating.items() if not bool(tensor.isfinite().all())}


def num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


# ---------------------------------------------------------------------- trees of state


def split(
    state: Any, name: str = "", tensors: dict[str, Tensor] | None = None
) -> tuple[Any, dict[str, Tensor]]:
    """A tree of dicts, lists, tensors and plain values -> it as JSON, and its tensors by name."""
    found: dict[str, Tensor] = {} if tensors is None else tensors
    if isinstance(state, Tensor):
        assert name not in found, f"two tensors of the state are called {name}"
        found[name] = state
        return {"$tensor": name}, found
    if isinstance(state, dict):
        assert all(isinstance(key, str) for key in state), f"{name}: keys must be str"
        prefix = f"{name}." if name else ""
        return {k: split(v, prefix + k, found)[0] for k, v in state.items()}, found
    if isinstance(state, list | tuple):
        if are_integers(state):
            return list(state), found
        return [split(v, f"{name}.{i}", found)[0] for i, v in enumerate(state)], found
    assert state is None or isinstance(state, bool | int | float | str), f"{name}: {type(state)}"
    if isinstance(state, float) and not math.isfinite(state):
        return {"$float": str(state)}, found  # JSON has no NaN
    return state, found


def join(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `split`; tuples come back as lists."""
    if isinstance(tree, dict):
        if set(tree) == {"$tensor"}:
            return tensors[tree["$tensor"]]
        if set(tree) == {"$float"}:
            return float(tree["$float"])
        return {key: join(value, tensors) for key, value in tree.items()}
    return [join(value, tensors) for value in tree] if isinstance(tree, list) else tree


def snapshot(tree: Any) -> Any:
    """The tree with every tensor copied to host memory: training on does not change it."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, dict):
        return {key: snapshot(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return list(tree) if are_integers(tree) else [snapshot(value) for value in tree]
    return tree


def are_integers(values: list[Any] | tuple[Any, ...]) -> bool:
    """Of the 1,250 numbers of two random generators, looked at one by one, a copy took 3 ms."""
    return set(map(type, values)) == {int}
