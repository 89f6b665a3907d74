"""Every yaml of the group says what it is, and makes what it names."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

GROUP = Path(__file__).parents[2] / "configs" / "callbacks"
CHECKPOINT = {"checkpoint": {"monitor": "accuracy/val", "mode": "max"}}  # what yamls refer to


@pytest.mark.parametrize("path", sorted(GROUP.glob("*.yaml")), ids=lambda path: path.stem)
def test_it_instantiates(path):
    assert path.read_text().startswith("# ")
    config = OmegaConf.merge(CHECKPOINT, {"callbacks": OmegaConf.load(path) or {}})
    for key, made in instantiate(config.callbacks).items():
        assert (
            f"{type(made).__module__}.{type(made).__qualname__}" == config.callbacks[key]._target_
        )
