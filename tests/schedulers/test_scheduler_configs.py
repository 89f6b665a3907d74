"""Every scheduler yaml says what it is and makes a schedule."""

import importlib
from pathlib import Path

import pytest
import yaml

from dltrain.config.durations import parse_duration
from dltrain.config.signatures import check_arguments, read_signature

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "scheduler").glob("*.yaml"))


def as_fraction(value: object) -> object:
    """As the builder does it, in a run of 100 steps."""
    if isinstance(value, list):
        return [as_fraction(each) for each in value]
    if isinstance(value, str) and value.endswith("%"):
        return parse_duration(value).steps(steps_per_epoch=1, num_steps=100) / 100
    return value


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_yaml_makes_a_schedule(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    config = yaml.safe_load(text)
    signature = read_signature(config["_target_"])
    assert signature is not None
    assert check_arguments(signature, config) == []
    assert set(config) - {"_target_"} == {each.name for each in signature.parameters}
    module, _, name = config.pop("_target_").rpartition(".")
    schedule = getattr(importlib.import_module(module), name)(
        **{key: as_fraction(value) for key, value in config.items()}
    )
    assert 0.0 < schedule(0.0) <= 1.0
    assert 0.0 <= schedule(1.0) <= 1.0


def test_there_are_all() -> None:
    names = {"constant", "cosine", "linear", "multi_step", "one_cycle", "step"}
    assert names <= {path.stem for path in CONFIGS}
