"""A yaml of a few lines whose aliases unfold to more than memory holds: refused before it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from dltrain.errors import UserError

MAX_NODES = 100_000
MAX_BYTES = 1 << 20


def refuse_bombs(folder: Path) -> None:
    """Raises UserError for a config in `folder` that no config can be as large as.

    Whatever else is wrong with a file is for Hydra to find, if the run uses it.
    """
    for pattern in ("*.yaml", "*/*.yaml", "*/*/*.yaml"):
        for file in folder.glob(pattern):
            if not file.is_file():
                continue
            if file.stat().st_size > MAX_BYTES:
                raise UserError(f"{file} has more than {MAX_BYTES} bytes; a config has far fewer")
            if num_nodes(file) > MAX_NODES:
                raise UserError(
                    f"{file}: its aliases (*name) unfold to more than {MAX_NODES} values; "
                    "write out what is meant"
                )


def num_nodes(file: Path) -> float:
    """How many values a yaml file unfolds to; infinite where an alias holds itself."""
    data = file.read_bytes()
    if b"&" not in data:  # no anchor, no alias
        return 0
    try:
        root = yaml.compose(data, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return 0
    return unfolded(root, {}) if root is not None else 0


def unfolded(node: Node, sizes: dict[int, float]) -> float:
    """Each node is looked at once, however many aliases lead to it."""
    if id(node) not in sizes:
        sizes[id(node)] = float("inf")  # until it is known: what leads back here has no end
        sizes[id(node)] = 1 + sum(unfolded(child, sizes) for child in children(node))
    return sizes[id(node)]


def children(node: Node) -> Iterator[Node]:
    if isinstance(node, SequenceNode):
        yield from node.value
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value
