"""Whether what is to be watched will be there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dltrain.errors import UserError

# Which way is better, of the metrics whose name says so
BETTER = {"loss": "min", "accuracy": "max"}


def wrong_modes(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """The key, the value and the rule of every mode that would keep the worst for the best."""
    watchers = {f"callbacks.{name}": node for name, node in (config["callbacks"] or {}).items()}
    for key, node in {"checkpoint": config["checkpoint"], **watchers}.items():
        mode, monitor = node.get("mode"), str(node.get("monitor"))
        better = next((BETTER[name] for name in BETTER if monitor.startswith(name)), mode)
        if mode in ("min", "max") and mode != better:
            yield f"{key}.mode", mode, f"of {monitor} the best is the {better}: {key}.mode={better}"


def check_monitors(
    config: dict[str, Any], callbacks: dict[str, Any], num_val: int, metrics: Any
) -> None:
    """Of the checkpoint, and of every callback that has one."""
    check_monitor("checkpoint", config["checkpoint"]["monitor"], num_val, metrics)
    for name, callback in callbacks.items():
        if hasattr(callback, "monitor"):
            check_monitor(f"callbacks.{name}", callback.monitor, num_val, metrics)


def check_monitor(
    key: str, monitor: str, num_val: int, metrics: dict[str, Sequence[str]] | None
) -> None:
    """A monitor names a metric that there will be. `metrics`: of a task that says so."""
    name, _, split = monitor.partition("/")
    if split == "val" and not num_val:
        raise UserError(
            f"{key}.monitor is {monitor}, but the dataset has no samples to validate on\n"
            "add checkpoint.monitor=loss/train checkpoint.mode=min checkpoint.final=last"
        )
    if metrics is not None and name not in metrics.get(split, ()):
        known = ", ".join(f"{each}/{part}" for part in metrics for each in metrics[part])
        raise UserError(f"{key}.monitor is {monitor}; this task has {known}")
