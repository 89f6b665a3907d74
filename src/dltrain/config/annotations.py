"""Whether a plain value of a yaml can be what an annotation, given as text, asks for."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import lru_cache

SCALARS = {"int": int, "bool": bool, "str": str, "None": type(None)}
SEQUENCES = {"list", "List", "Sequence", "Iterable", "Collection", "set", "Set", "frozenset"}
MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping"}
# No yaml can write one, so that `float | Tensor` asks for a number.
OBJECTS = {"Tensor", "Module"}
WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "None": "null",
    "dict": "a mapping",
    "list": "a list",
    "Path": "a path",
}
PLAIN = (type(None), bool, int, float, str, list, tuple, Mapping)


def agrees(value: object, annotation: str) -> bool:
    """False only where the plain type of `value` contradicts `annotation` beyond doubt.

    An int will do for a float, a bool is no int, a list will do for a tuple of its length. Whatever
    an annotation names that is not known here is never judged, nor a value that is not plain, a
    mapping with a `_target_`, or text that is not
    resolved yet (`${...}`, `???`).
    """
    node = parse_annotation(annotation)
    return node is None or _agrees(value, node)


@lru_cache(maxsize=1024)
def parse_annotation(annotation: str) -> ast.expr | None:
    """The annotation's expression, out of its quotes if it had any; None where it is none."""
    try:
        node = ast.parse(annotation, mode="eval").body
    except (SyntaxError, ValueError):
        return None
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return parse_annotation(node.value)
    return node


def in_words(annotation: str) -> str:
    """What an annotation asks for, as one who knows no Python would say it; or its own text."""
    node = parse_annotation(annotation)
    said = _in_words(node) if node is not None else None
    return said or annotation.replace("None", "null")


def _in_words(node: ast.expr) -> str | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        sides = [node.left, node.right]
        said = [_in_words(each) for each in sides if _last_name(each) not in OBJECTS]
        return " or ".join(filter(None, said)) if all(said) else None
    if isinstance(node, ast.Subscript):
        return _generic_in_words(_last_name(node.value), node.slice)
    return WORDS.get(_last_name(node) or "")


def _generic_in_words(name: str | None, inside: ast.expr) -> str | None:
    items = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if name == "Literal" and all(isinstance(item, ast.Constant) for item in items):
        return "one of " + ", ".join(str(item.value) for item in items if hasattr(item, "value"))
    inner = _in_words(items[0])
    if inner is None or not inner.startswith(("a ", "true", "text")):
        return None
    plural = inner.removeprefix("a ") + "s" * inner.startswith("a ")
    if name in SEQUENCES:
        return f"a list of {plural}"
    if name in ("tuple", "Tuple"):
        endless = isinstance(items[-1], ast.Constant) and items[-1].value is Ellipsis
        return f"a list of {'' if endless else f'{len(items)} '}{plural}"
    return f"{inner} or null" if name == "Optional" else None


def _agrees(value: object, node: ast.expr) -> bool:
    if not isinstance(value, PLAIN) or _stands_for_something_else(value):
        return True
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _agrees(value, node.left) or _agrees(value, node.right)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return agrees(value, node.value)
    if isinstance(node, ast.Subscript):
        return _agrees_with_generic(value, _last_name(node.value), node.slice)
    return _agrees_with_name(value, _last_name(node))


def _stands_for_something_else(value: object) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value
    return isinstance(value, str) and ("${" in value or value == "???")


def _agrees_with_name(value: object, name: str | None) -> bool:
    if name == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if name == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if name in SCALARS:
        return isinstance(value, SCALARS[name])
    if name in SEQUENCES or name in ("tuple", "Tuple"):
        return isinstance(value, list | tuple | str)
    if name in MAPPINGS:
        return isinstance(value, Mapping)
    return name not in OBJECTS


def _agrees_with_generic(value: object, name: str | None, inside: ast.expr) -> bool:
    items = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if name == "Optional":
        return value is None or _agrees(value, inside)
    if name == "Union":
        return any(_agrees(value, item) for item in items)
    if name in ("Annotated", "Final", "InitVar", "ClassVar"):
        return _agrees(value, items[0])
    if name == "Literal":
        return _is_one_of(value, items)
    if name in ("tuple", "Tuple"):
        return isinstance(value, list | tuple) and _agrees_with_items(value, items)
    if name in SEQUENCES:
        if isinstance(value, str):  # a str is a sequence of str, if nothing else
            return name in ("Sequence", "Iterable", "Collection") and _agrees(value, inside)
        return isinstance(value, list | tuple) and all(_agrees(each, inside) for each in value)
    if name in MAPPINGS:
        return isinstance(value, Mapping)
    return True


def _agrees_with_items(value: list[object] | tuple[object, ...], items: list[ast.expr]) -> bool:
    if len(items) == 2 and isinstance(items[1], ast.Constant) and items[1].value is Ellipsis:
        return all(_agrees(each, items[0]) for each in value)
    return len(value) == len(items) and all(map(_agrees, value, items))


def _is_one_of(value: object, items: list[ast.expr]) -> bool:
    if not all(isinstance(item, ast.Constant) for item in items):
        return True  # members of an Enum
    choices = [item.value for item in items if isinstance(item, ast.Constant)]
    return any(type(value) is type(choice) and value == choice for choice in choices)


def _last_name(node: ast.expr) -> str | None:
    """`Tensor` for `torch.Tensor`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Constant) and node.value is None:
        return "None"
    return node.id if isinstance(node, ast.Name) else None
