"""Every yaml of the group says what it is, and makes what it names."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

GROUP = Path(__file__).parents[2] / "configs" / "loggers"


@pytest.mark.parametrize("path", sorted(GROUP.glob("*.yaml")), ids=lambda path: path.stem)
def test_it_instantiates(path):
    assert path.read_text().startswith("# ")
    if path.stem in ("wandb", "mlflow"):
        pytest.importorskip(path.stem, reason=f"needs {path.stem}: dltrain[{path.stem}]")
    config = OmegaConf.create({"loggers": OmegaConf.load(path) or {}})
    for key, made in instantiate(config.loggers).items():
        assert f"{type(made).__module__}.{type(made).__qualname__}" == config.loggers[key]._target_
