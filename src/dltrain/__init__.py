"""Train neural networks from config files."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load_run", "train"]


def __getattr__(name: str) -> Any:
    """What notebooks want is imported when it is asked for: torch takes seconds."""
    if name == "load_run":
        from dltrain.trained import load_run

        return load_run
    if name == "train":
        from dltrain.notebook import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
