"""Train neural networks from config files."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load_run", "train"]
_ORIGINS = {"load_run": ".trained", "train": ".notebook"}


def __getattr__(name: str) -> Any:
    """What notebooks want is imported when it is asked for: torch takes seconds."""
    if name not in _ORIGINS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_ORIGINS[name], __name__), name)
