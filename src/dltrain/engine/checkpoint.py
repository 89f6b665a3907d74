"""The checkpoint format: safetensors, JSON and digests, durable before it has its name.

A folder `step-00001200/` holds `model.safetensors`, `state.safetensors`, `state.json` and
`MANIFEST.json`. It is written under a temporary name beside its place, synced, and renamed: a
folder with its final name is complete, and one whose digests do not match is damaged. Reading one
runs no code, follows no link, and takes no more memory than its tensors and a few MB.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dltrain.durable import irregular, remove, storage_error, sync_folder, write_parts
from dltrain.engine.tensors import join, num_bytes, read_tensors, split, write_tensors
from dltrain.errors import NO_PERMISSION, NO_SPACE, CheckpointError

FORMAT_VERSION = 1
MODEL, STATE, NUMBERS, MANIFEST = (
    "model.safetensors",
    "state.safetensors",
    "state.json",
    "MANIFEST.json",
)
FOLDER = re.compile(r"step-(\d{8,18})")
# Folders that are not checkpoints: being written; moved out of the way of a newer one of the same
# step, and put back where that never came; about to be removed.
TEMPORARY, REPLACED, REMOVED = ".tmp-", ".tmp-old-", ".tmp-removed-"
# What 100,000 tensors need; a file of this size with nothing but brackets unfolds to 100 MB
MAX_JSON_BYTES, MAX_JSON_VALUES = 16 << 20, 1 << 20


class DamagedError(Exception):
    """A checkpoint does not hold what its manifest says."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was verified and read: weights and state, on the CPU."""

    path: Path
    step: int
    metrics: dict[str, float | None]
    model: dict[str, Tensor]
    state: dict[str, Any]


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

    Raises StorageError where there is no room or no permission, and OSError for whatever else a
    disk does; what was there before is there afterwards, and nothing else.
    """
    final = folder / f"step-{step:08d}"
    temporary = folder / (TEMPORARY + final.name)
    numbers, tensors = split(state)
    content = {"format": FORMAT_VERSION, "config_digest": config_digest, "state": numbers}
    text = json.dumps(
        content, allow_nan=False
    ).encode()  # with line breaks it takes 10 times as long
    check_json(NUMBERS, text)
    needed = sum(map(num_bytes, [*model.values(), *tensors.values()])) + len(text)
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            sync_folder(folder.parent)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        files = {
            MODEL: write_tensors(temporary / MODEL, model),
            STATE: write_tensors(temporary / STATE, tensors),
            NUMBERS: write_parts(temporary / NUMBERS, [text]),
        }
        write_parts(temporary / MANIFEST, [make_manifest(step, metrics, files)])
        sync_folder(temporary)
        replace_folder(temporary, final)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if error.errno in (*NO_SPACE, *NO_PERMISSION):
            raise storage_error(error, needed) from error
        raise
    return final


def make_manifest(step: int, metrics: dict[str, float], files: dict[str, tuple[int, str]]) -> bytes:
    manifest = {
        "format": FORMAT_VERSION,
        "step": step,
        "metrics": {name: v if math.isfinite(v) else None for name, v in metrics.items()},
        "files": {name: {"size": size, "sha256": sha} for name, (size, sha) in files.items()},
    }
    return json_bytes(manifest | {"digest": digest_of(manifest)})


def replace_folder(temporary: Path, final: Path) -> None:
    """Gives the folder its name, durably; one that had it is kept until then."""
    aside = final.with_name(REPLACED + final.name)
    shutil.rmtree(aside, ignore_errors=True)
    replaces = final.exists()  # the same step again, evaluated now: a signal had cut that short
    if replaces:
        os.rename(final, aside)
    try:
        os.rename(temporary, final)
    except OSError:
        if replaces:
            os.rename(aside, final)
        raise
    sync_folder(final.parent)
    if replaces:
        shutil.rmtree(aside)


def remove_checkpoint(path: Path) -> None:
    """Takes its name away before its files, so that a folder with such a name stays whole."""
    aside = path.with_name(REMOVED + path.name)
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(path, aside)
    remove(aside)


def clear_leftovers(folder: Path) -> None:
    """Removes what a killed process left behind; only under the run's lock."""
    for path in folder.glob(REPLACED + "*"):
        final = path.with_name(path.name.removeprefix(REPLACED))
        if not final.exists() and FOLDER.fullmatch(final.name):
            os.rename(path, final)  # killed between two renames: the newer one never came
    for path in folder.glob(TEMPORARY + "*"):
        remove(path)


def json_bytes(data: Any) -> bytes:
    return (json.dumps(data, indent=1, allow_nan=False) + "\n").encode()


def check_json(name: str, text: bytes) -> None:
    """Raises ValueError for what is larger than the state of any run, before it is parsed."""
    values = text.count(b",") + text.count(b"[") + text.count(b"{")
    if len(text) > MAX_JSON_BYTES or values > MAX_JSON_VALUES:
        raise ValueError(
            f"{name} has {len(text):,} bytes and about {values:,} values; at most "
            f"{MAX_JSON_BYTES:,} and {MAX_JSON_VALUES:,} can be: keep large states in tensors"
        )


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
        text = read_json_bytes(path / MANIFEST)
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
        kind = irregular(path)
        if kind:
            raise DamagedError(f"it is {kind}, not a folder")
        if FOLDER.fullmatch(path.name) and int(path.name[5:]) != manifest["step"]:
            raise DamagedError(f"its manifest is that of step {manifest['step']}")
        values = [value for value in manifest["metrics"].values() if value is not None]
        if not all(isinstance(value, int | float) for value in [manifest["step"], *values]):
            raise DamagedError(f"{MANIFEST} holds no numbers")
        return manifest
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{MANIFEST} cannot be read: {error}") from error


def read_json_bytes(path: Path) -> bytes:
    """The file, if it is one and can be parsed in bounded memory. Raises OSError, ValueError."""
    kind = irregular(path)
    if kind:
        raise ValueError(f"{path.name} is {kind}, not a file")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes")
    text = path.read_bytes()
    check_json(path.name, text)
    return text


def verify(path: Path) -> dict[str, Any]:
    """The manifest, if every file of the checkpoint at `path` is as it says; or DamagedError."""
    manifest = read_manifest(path)
    try:
        for name in (MODEL, STATE, NUMBERS):
            kind = irregular(path / name)
            if kind:
                raise DamagedError(f"{name} is {kind}, not a file")
            expected, size = manifest["files"][name], os.path.getsize(path / name)
            if size != expected["size"]:
                raise DamagedError(f"{name} has {size} bytes, not {expected['size']}")
            with open(path / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                    raise DamagedError(f"{name} does not match its SHA-256")
    except OSError as error:
        raise DamagedError(f"a file cannot be read: {error}") from error
    except (LookupError, TypeError) as error:
        raise DamagedError(f"{MANIFEST} does not name every file: {error}") from error
    return manifest


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path`, verified against its manifest and read; raises DamagedError."""
    manifest = verify(path)
    try:
        numbers = json.loads(read_json_bytes(path / NUMBERS))
        state = join(numbers["state"], read_tensors(path / STATE))
        model = read_tensors(path / MODEL)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DamagedError(f"it cannot be read: {error}") from error
    return Checkpoint(path, manifest["step"], manifest["metrics"], model, state)


def by_value(folder: Path, monitor: str, mode: str) -> list[Path]:
    """The checkpoints that have `monitor`, the best first, by the manifests; of equals the latest.

    Those whose manifest is damaged are left out.
    """
    sign = 1.0 if mode == "max" else -1.0
    found = []
    for path in steps_in(folder):
        try:
            value = read_manifest(path)["metrics"].get(monitor)
        except DamagedError:
            continue
        if value is not None:
            found.append((sign * value, int(path.name[5:]), path))
    return [path for _, _, path in sorted(found, reverse=True)]
