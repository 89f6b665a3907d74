"""A config that makes a `_target_` out of sight is refused."""

import pytest
from omegaconf import OmegaConf

from dltrain.config.check import check
from dltrain.config.compose import compose, job_config
from dltrain.errors import UserError


def test_an_interpolation_that_was_escaped_is_refused():
    """Building resolves what checking left: `oc.create` would make a `_target_` unseen."""
    cfg = job_config(compose([]))
    OmegaConf.update(cfg, "model.activation", r"\${oc.create:{_target_:os.getcwd}}")
    with pytest.raises(UserError, match=r"model\.activation .* must not hold \$\{"):
        check(cfg)


@pytest.mark.parametrize(
    "target", ["dltrain.data.download.download", "dltrain.loggers.events.truncate"]
)
def test_functions_of_ours_are_no_targets(target):
    """Some of them download or cut files: only classes can be named."""
    cfg = job_config(compose([]))
    OmegaConf.update(cfg, "model", {"_target_": target}, merge=False, force_add=True)
    with pytest.raises(UserError, match="not allowed as a _target_"):
        check(cfg)
