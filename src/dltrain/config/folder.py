"""Where the configs of dltrain lie."""

from __future__ import annotations

from pathlib import Path

from dltrain.errors import UserError


def config_dir() -> Path:
    """The folder of configs: inside an installed wheel, at the top of a checkout otherwise."""
    package = Path(__file__).resolve().parents[1]
    for place in (package / "configs", package.parents[1] / "configs"):
        if (place / "train.yaml").is_file():
            return place
    raise UserError(f"the configs of dltrain are missing beside {package}: install it again")
