"""The tables of malformed data sets, and how one of them is read."""

import importlib
import os
from pathlib import Path

import malformed_archives
import malformed_cifar
import malformed_idx
import malformed_mat
import malformed_roots
from omegaconf import OmegaConf

CONFIGS = Path(__file__).parents[2] / "configs"
TABLES = {
    "idx": malformed_idx.CASES,
    "cifar": malformed_cifar.CASES,
    "archive": malformed_archives.CASES,
    "mat": malformed_mat.CASES,
    "root": malformed_roots.CASES,
}


def in_process(name: str, root: Path):
    """The dataset of configs/dataset/NAME.yaml with root as its own."""
    config = OmegaConf.to_container(OmegaConf.load(CONFIGS / "dataset" / f"{name}.yaml"))
    module, _, cls = config.pop("_target_").rpartition(".")
    return getattr(importlib.import_module(module), cls)(
        **config | {"root": str(root), "num_val": 5}
    )


def snapshot(root: Path) -> dict[str, tuple[int, ...]]:
    """What lies at and below root: names, and what any change of a file would change."""
    seen = {}
    for path in (root, *root.rglob("*")):
        if os.path.lexists(path):
            stat = path.lstat()
            changed = () if path.is_dir() else (stat.st_size, stat.st_mtime_ns, stat.st_ino)
            seen[str(path)] = (stat.st_mode, *changed)
    return seen
