"""What a choice of a config group sets: its keys and their values, as they are typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dltrain.config.bombs import MAX_BYTES, MAX_NODES, num_nodes

MAX_DEPTH = 32


def typed_keys(group: str, choice: str, files: Mapping[str, Path]) -> list[str]:
    """`model.widths=[32,64]` and so on, for the yaml of `choice` and those that it builds on.

    files: choice -> yaml, of the group. Facts of the dataset (`${...}`) are left out: nobody types
    them. Raises ValueError for what is no yaml.
    """
    prefix = "" if is_global(files[choice]) else f"{group.replace('/', '.')}."
    return [f"{prefix}{key}={value}" for key, value in settings(choice, files).items()]


def is_global(file: Path) -> bool:
    """Whether its keys are those of the whole config (Hydra's `# @package _global_`)."""
    with open(file, encoding="utf-8", errors="replace") as lines:
        return lines.readline(100).split() == ["#", "@package", "_global_"]


def settings(choice: str, files: Mapping[str, Path], depth: int = 0) -> dict[str, str]:
    """Dotted key -> value as text; a yaml's own values count more than those that it builds on."""
    if choice not in files or depth > MAX_DEPTH:  # of another group, or for Hydra to complain of
        return {}
    node = read(files[choice])
    found: dict[str, str] = {}
    defaults = node.pop("defaults", None)
    for entry in defaults if isinstance(defaults, list) else ():
        if isinstance(entry, str):
            found |= settings(entry, files, depth + 1)
        elif isinstance(entry, dict):  # `override /optimizer: sgd`
            found |= {str(key).split("/")[-1]: text(value) for key, value in entry.items()}
    return found | dict(leaves(node))


def read(file: Path) -> dict[str, Any]:
    if file.stat().st_size > MAX_BYTES or num_nodes(file) > MAX_NODES:
        raise ValueError("larger than any config is")
    try:
        node = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ValueError("no yaml" + (f", see line {mark.line + 1}" if mark else "")) from error
    return node if isinstance(node, dict) else {}


def leaves(node: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and any("." in str(inner) for inner in value):
            yield key, flow(value)  # what it holds has dotted keys of its own
        elif isinstance(value, dict) and depth < MAX_DEPTH:
            yield from leaves(value, f"{key}.", depth + 1)
        elif not str(name).startswith("_") and "${" not in str(value):
            yield key, text(value)


def flow(value: Any) -> str:
    from dltrain.config.grammar import write

    return write(numbers(value))


def numbers(value: Any) -> Any:
    """`1e-4` is text to YAML, and a number to Hydra."""
    if isinstance(value, dict):
        return {key: numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [numbers(each) for each in value]
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def text(value: Any) -> str:
    """As Hydra reads it from the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(text, value))}]"
    return str(value)
