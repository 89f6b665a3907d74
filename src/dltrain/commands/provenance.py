"""What made a run: `run.json`."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain import runs
from dltrain.build_data import fingerprint
from dltrain.commands.code import changed_files, digest_together, git_state, source_files
from dltrain.durable import replace_text
from dltrain.effects import NO_NUMBER
from dltrain.plain import printable, to_yaml

if TYPE_CHECKING:
    from dltrain.build_data import Data
    from dltrain.commands.run import Job
    from dltrain.engine.trainer import Trainer

log = logging.getLogger("dltrain")
# Their arithmetic, our order of it, and their pixels
EXACT = ("dltrain", "torch", "torchvision", "numpy", "pillow", "simplejpeg")
MAX_FILES = 5  # that are named of those that have changed
SHORT = 12  # digits of a file's digest: it is compared with two others, not looked up
PACKAGES = (*EXACT, "hydra-core", "omegaconf", "safetensors")


def record(
    config: dict[str, Any],
    choices: dict[str, Any],
    precision: str,
    *,
    allowed: Sequence[str] = (),
    with_diff: bool = True,
    around: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that a reader needs to know how this run came to be.

    around: `surroundings`, where they are known already.
    """
    import torch

    around = around or surroundings(allowed, with_diff=with_diff)

    return {
        "command": shlex.join(["dltrain", *sys.argv[1:]]),
        "start": datetime.now().astimezone().isoformat(timespec="seconds"),
        "seed": config["seed"],
        "precision": precision,
        "threads": torch.get_num_threads(),
        "choices": choices,
        "config_digest": config_digest(config),
        "settings_digest": settings_digest(config),
        **around,
        "pid": os.getpid(),
    }


def surroundings(allowed: Sequence[str] = (), *, with_diff: bool = True) -> dict[str, Any]:
    """Of a record what is the same for all runs that begin in this place at this time."""
    files = source_files(allowed)
    return {
        "git": git_state(with_diff=with_diff),
        "sources": {name: digest_together(each) for name, each in files.items()},
        "source_files": {
            package: {name: digest[:SHORT] for name, digest in each.items()}
            for package, each in files.items()
        },
        "versions": {"python": platform.python_version(), **versions()},
        "host": platform.node(),
        "platform": platform.platform(),
    }


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What of two records keeps a run that goes on from being bit for bit the same."""
    before, after = old.get("versions"), new["versions"]
    pairs = [(name, before.get(name), after.get(name)) for name in EXACT] if before else []
    pairs += [("device", kind_of(old.get("device")), kind_of(new["device"]))]
    pairs += [(name, old.get(name), new[name]) for name in ("threads", "precision")]
    pairs += [
        (f"data of {split}", short(recorded_data(old).get(split)), short(digest))
        for split, digest in recorded_data(new).items()
    ]
    return [f"{name} {old} -> {new}" for name, old, new in pairs if new and old not in (None, new)]


def changes_since(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What made one run and not the other, line by line; and of what `old` does not say."""
    lines = []
    for group, what in (
        ("git", "code:"),
        ("sources", "code: the files of"),
        ("versions", "version of"),
        ("data", "data of"),
    ):
        before, after = old.get(group), new.get(group)
        if not isinstance(before, dict):
            lines += [f"{group} is not in its record: unknown"] if after else []
            continue
        for key in sorted(before.keys() | (after or {}).keys(), key=str):
            pair = before.get(key), (after or {}).get(key)
            if key != "diff" and pair[0] != pair[1]:
                line = f"{what} {shown(key)} {shown(pair[0])} -> {shown(pair[1])}"
                lines.append(line + (which_files(old, new, key) if group == "sources" else ""))
    pairs = [("device", kind_of(old.get("device")), kind_of(new.get("device")))]
    pairs += [(key, old.get(key), new.get(key)) for key in ("threads", "precision", "platform")]
    return lines + [f"{k} {shown(a)} -> {shown(b)}" for k, a, b in pairs if a != b]


def which_files(old: dict[str, Any], new: dict[str, Any], package: Any) -> str:
    """`: engine/trainer.py and 3 more`; nothing where a record does not name its files."""
    tables = [record.get("source_files") for record in (old, new)]
    found = changed_files(*(t.get(package) if isinstance(t, dict) else None for t in tables))
    more = len(found) - MAX_FILES
    names = ", ".join(map(shown, found[:MAX_FILES])) + (f" and {more:,} more" if more > 0 else "")
    return f": {names}" if names else ""


def shown(value: Any) -> str:
    """A record may be a stranger's; of a digest its beginning says enough."""
    text = str(value)
    text = text[:12] if len(text) >= 40 and text.isalnum() else text[:80]
    return printable(text)


def recorded_data(record: dict[str, Any]) -> dict[str, Any]:
    found = record.get("data")
    return found if isinstance(found, dict) else {}


def short(digest: Any) -> str | None:
    return digest[:12] if isinstance(digest, str) and digest.isalnum() else None


def kind_of(device: Any) -> str | None:
    """`cuda:1 (NVIDIA H100)` is of the same kind as `cuda:0 (NVIDIA H100)`."""
    if not isinstance(device, str):
        return None
    place, _, name = device.partition(" ")
    return f"{place.partition(':')[0]} {name}".strip()


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def config_digest(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def settings_digest(config: dict[str, Any]) -> str:
    """Of what decides the numbers of a run: two runs with the same should be the same."""
    kept = {
        key: {k: v for k, v in node.items() if f"{key}.{k}" not in NO_NUMBER}
        if isinstance(node, dict)
        else node
        for key, node in config.items()
        if key not in NO_NUMBER
    }
    return config_digest(kept)


MAX_CLASSES, MAX_NAME, MAX_NAMES_BYTES = 10_000, 100, 1 << 20


def class_names(dataset: Any) -> list[str] | None:
    """What a dataset calls its classes, as far as a record has room; None where it does not."""
    try:
        names = [str(name)[:MAX_NAME] for name in getattr(dataset, "classes", None) or ()]
    except (OSError, ValueError, TypeError):  # a property that looks at the data, which are gone
        return None
    fits = 0 < len(names) <= MAX_CLASSES and len(json.dumps(names)) <= MAX_NAMES_BYTES
    return names if fits else None


def write(run_dir: Path, job: Job, trainer: Trainer, data: Data) -> None:
    """Leaves config.yaml, Hydra's own files and the record of what made the run, or went on."""
    from dltrain.engine.device import device_name

    replace_text(
        run_dir / runs.CONFIG, to_yaml(job.config)
    )  # first: with it a directory can be resumed
    hydra_dir = run_dir / runs.HYDRA
    for name, text in job.hydra_files.items():
        hydra_dir.mkdir(exist_ok=True)
        replace_text(hydra_dir / name, text, sync=False)
    first = runs.read_if_whole(run_dir / runs.RECORD)
    new = record(
        job.config,
        job.choices,
        trainer.precision,
        allowed=job.allowed,
        with_diff=not first,
        around=job.shared.surroundings if job.shared else None,
    )
    new["device"] = device_name(trainer.device)
    new["data"] = job.shared.fingerprint if job.shared else fingerprint(data)
    classes = {"classes": class_names(data.dataset)}  # to name predictions where the data is not
    if first:  # what made the run stays; beside it, what went on with it
        again = first.get("resumed", [])
        before = again[-1] if again else first
        if before.get("sources") == new["sources"]:
            del new["source_files"]  # 10 KB; those of the record before
        changed = differences(before, new)
        if changed and trainer.step:
            log.warning("not bit for bit from here: %s", ", ".join(changed))
        again = [*again, new]
        new = first | {"resumed": again} | {k: new[k] for k in ("threads", "choices")}
    new |= {} if first.get("classes") else classes
    runs.write_json(run_dir / runs.RECORD, new)
