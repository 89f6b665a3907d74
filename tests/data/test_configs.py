"""Every yaml of a dataset or an augmentation: described, complete, true to its target."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from dltrain.data.mixer import Mix
from dltrain.data.published import PublishedDataset

CONFIGS = Path(__file__).parents[2] / "configs"
DATASETS = sorted((CONFIGS / "dataset").glob("*.yaml"))
AUGMENTATIONS = sorted((CONFIGS / "augmentation").glob("*.yaml"))
FOLDERS = ["image_folder", "imagenet", "packed"]  # what their classes are, only the data can tell
MADE_HERE = ["digits", "circles", "circles_polar", "synthetic"]


def read(path: Path) -> dict:
    facts = {"num_classes": 10, "image_shape": [3, 8, 8]}
    node = OmegaConf.create({"dataset": facts, "content": OmegaConf.load(path)}).content
    content = OmegaConf.to_container(node, resolve=True)
    base = {}
    for default in content.pop("defaults", []):
        if default == "_self_":
            continue
        base |= read(path.with_name(f"{default}.yaml"))
    return base | content


def target(node: dict):
    module, _, name = node.pop("_target_").rpartition(".")
    return getattr(importlib.import_module(module), name)


def name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", DATASETS + AUGMENTATIONS, ids=name)
def test_first_line_says_what_it_is(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert len(first) <= 100


@pytest.mark.parametrize("path", DATASETS, ids=name)
def test_dataset_takes_exactly_the_keys_of_its_yaml(path):
    node = read(path)
    cls = target(node)
    parameters = list(inspect.signature(cls).parameters.values())
    assert set(node) == {p.name for p in parameters}
    assert {p.kind for p in parameters} == {inspect.Parameter.KEYWORD_ONLY}
    dataset = cls(**node)
    if path.stem not in FOLDERS:
        assert dataset.num_classes == node["num_classes"] == len(dataset.classes)
    assert dataset.image_shape == tuple(node["image_shape"])
    if node["mean"] != "auto":
        assert (dataset.mean, dataset.std) == (tuple(node["mean"]), tuple(node["std"]))


@pytest.mark.parametrize("path", DATASETS, ids=name)
def test_published_files_have_a_checksum_and_a_size(path):
    cls = target(read(path))
    if issubclass(cls, PublishedDataset):
        assert cls.files
        for remote in cls.files:
            algorithm, _, digest = remote.checksum.partition(":")
            assert len(digest) == {"md5": 32, "sha256": 64}[algorithm]
            assert remote.size > 1000
            assert all(url.endswith(remote.name) for url in remote.urls)


@pytest.mark.parametrize("stem", MADE_HERE)
def test_mean_and_std_are_those_of_the_training_set(stem):
    node = read(CONFIGS / "dataset" / f"{stem}.yaml")
    dataset = target(node)(**node)
    inputs = dataset.load()["train"].inputs
    unit = 255 if inputs.dtype == np.uint8 else 1
    axes = (0, *range(2, inputs.ndim))
    rounding = 5e-5 if stem == "digits" else 0.06
    for found, stated in ((inputs.mean(axes), dataset.mean), (inputs.std(axes), dataset.std)):
        np.testing.assert_array_less(np.abs(found / unit - np.array(stated)), rounding)


@pytest.mark.parametrize("path", AUGMENTATIONS, ids=name)
def test_augmentation_instantiates(path):
    for part in map(dict, read(path).values()):
        made = target(part)(**part)
        assert callable(made) != isinstance(made, Mix)


def test_no_dataset_imports_torch():
    modules = sorted({read(path)["_target_"].rpartition(".")[0] for path in DATASETS})
    code = (
        f"import sys, {', '.join(modules)}; print('torch' in sys.modules, 'scipy' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False False\n"
