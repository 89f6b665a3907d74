"""The checkpoint format: safetensors, JSON and digests, durable before it has its name.

A folder `step-00001200/` holds `model.safetensors`, `state.safetensors`, `state.json` and
`MANIFEST.json`. It is written under a temporary name beside its place, synced, and renamed: a
folder with its final name is complete, and one whose digests do not match is damaged. Reading one
runs no code: there is no pickle in it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dltrain.errors import CheckpointError

FORMAT_VERSION = 1
MODEL, STATE, NUMBERS, MANIFEST = (
    "model.safetensors",
    "state.safetensors",
    "state.json",
    "MANIFEST.json",
)
FOLDER = re.compile(r"step-(\d{8,})")
TEMPORARY_PREFIX = ".tmp-"
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


class DamagedError(Exception):
    """A checkpoint does not hold what its manifest says."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk, its files verified; `load_*` read them."""

    path: Path
    step: int
    metrics: dict[str, float | None]

    def load_model(self) -> dict[str, Tensor]:
        return read_tensors(self.path / MODEL)

    def load_state(self) -> dict[str, Any]:
        numbers = json.loads((self.path / NUMBERS).read_text(encoding="utf-8"))
        return join(numbers["state"], read_tensors(self.path / STATE))


# ---------------------------------------------------------------------- writing


def write_checkpoint(
    folder: Path,
    step: int,
    *,
    model: dict[str, Tensor],
    state: dict[str, Any],
    metrics: dict[str, float],
    config_digest: str,
) -> Path:
    """Writes `folder/step-NNNNNNNN` durably; replaces one of the same step. Tensors are on the CPU.

    Raises OSError where the disk does, leaving whatever was there before.
    """
    final = folder / f"step-{step:08d}"
    temporary = folder / (TEMPORARY_PREFIX + final.name)
    numbers, tensors = split(state)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    files = {
        MODEL: write_tensors(temporary / MODEL, model),
        STATE: write_tensors(temporary / STATE, tensors),
        NUMBERS: write_json(
            temporary / NUMBERS,
            {"format": FORMAT_VERSION, "config_digest": config_digest, "state": numbers},
        ),
    }
    finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    manifest = {"format": FORMAT_VERSION, "step": step, "metrics": finite, "files": files}
    write_json(temporary / MANIFEST, manifest | {"digest": digest_of(manifest)})
    sync_folder(temporary)
    replace_folder(temporary, final)
    sync_folder(folder)
    return final


def replace_folder(temporary: Path, final: Path) -> None:
    if final.exists():  # the same step again: after an evaluation that a signal had cut short
        aside = final.with_name(TEMPORARY_PREFIX + "old-" + final.name)
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(final, aside)
        os.rename(temporary, final)
        shutil.rmtree(aside)
    else:
        os.rename(temporary, final)


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Writes a safetensors file, in name order so that equal weights are equal bytes; and syncs it.

    The format (github.com/huggingface/safetensors): length of the header in 8 bytes, the header as
    JSON padded to 8, then the raw tensors. Written here, and not by the library, because that
    copies every tensor twice and hides the file that has to be synced and hashed.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, offset = [], 0
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        parts.append(tensor.reshape(-1).view(torch.uint8).numpy().data if size else b"")
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return write_parts(path, [len(text).to_bytes(8, "little"), text, *parts])


def write_json(path: Path, data: Any) -> dict[str, Any]:
    return write_parts(path, [json_bytes(data)])


def json_bytes(data: Any) -> bytes:
    return (json.dumps(data, indent=1, allow_nan=False) + "\n").encode()


def write_parts(path: Path, parts: Iterable[Any]) -> dict[str, Any]:
    """Writes and syncs a file; its size and digest are those of what was meant to be written."""
    digest, size = hashlib.sha256(), 0
    with open(path, "wb") as file:
        for part in parts:
            file.write(part)
            digest.update(part)
            size += len(part)
        file.flush()
        os.fsync(file.fileno())
    return {"size": size, "sha256": digest.hexdigest()}


def sync_folder(path: Path) -> None:
    """Makes the names in a folder durable; without it a rename may be lost with the power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_of(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------------- reading


def steps_in(folder: Path) -> list[Path]:
    """The checkpoint folders in `folder`, oldest first, good or not."""
    found = [path for path in folder.glob("step-*") if FOLDER.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name[5:]))


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the checkpoint at `path`, itself verified; raises DamagedError."""
    try:
        text = (path / MANIFEST).read_bytes()
        manifest = json.loads(text)
        if text != json_bytes(manifest):
            raise DamagedError(f"{MANIFEST} is not as it was written")
        digest = manifest.pop("digest")
        if digest != digest_of(manifest):
            raise DamagedError(f"{MANIFEST} does not match its own digest")
        if manifest["format"] > FORMAT_VERSION:
            raise CheckpointError(
                f"{path} was written by a newer dltrain; update dltrain to read it"
            )
        return manifest
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{MANIFEST} cannot be read: {error}") from error


def open_checkpoint(path: Path) -> Checkpoint:
    """Verifies every file of the checkpoint at `path` against its manifest; raises DamagedError."""
    manifest = read_manifest(path)
    try:
        for name in (MODEL, STATE, NUMBERS):
            expected, size = manifest["files"][name], os.path.getsize(path / name)
            if size != expected["size"]:
                raise DamagedError(f"{name} has {size} bytes, not {expected['size']}")
            with open(path / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                    raise DamagedError(f"{name} does not match its SHA-256")
    except (OSError, KeyError) as error:
        raise DamagedError(f"a file is missing: {error}") from error
    return Checkpoint(path, manifest["step"], manifest["metrics"])


def find_best(folder: Path, monitor: str, mode: str) -> Path | None:
    """The checkpoint with the best `monitor`, by the manifests; the latest of equals."""
    sign = 1.0 if mode == "max" else -1.0
    best: tuple[float, Path] | None = None
    for path in steps_in(folder):
        try:
            value = read_manifest(path)["metrics"].get(monitor)
        except DamagedError:
            continue
        if value is not None and (best is None or sign * value >= best[0]):
            best = (sign * value, path)
    return best[1] if best else None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file, by the library that checks its header."""
    from safetensors.torch import load_file

    return load_file(path)


# ---------------------------------------------------------------------- tensors <-> numbers


def split(
    state: Any, name: str = "", tensors: dict[str, Tensor] | None = None
) -> tuple[Any, dict[str, Tensor]]:
    """A tree of dicts, lists, tensors and plain values -> it as JSON, and its tensors by name."""
    found: dict[str, Tensor] = {} if tensors is None else tensors
    if isinstance(state, Tensor):
        found[name] = state
        return {"$tensor": name}, found
    if isinstance(state, dict):
        assert all(isinstance(key, str) for key in state), f"{name}: keys must be str"
        prefix = f"{name}." if name else ""
        return {k: split(v, prefix + k, found)[0] for k, v in state.items()}, found
    if isinstance(state, list | tuple):
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
    return [snapshot(value) for value in tree] if isinstance(tree, list | tuple) else tree
