"""What a `_target_` may name: a config can come from someone else, and naming is calling.

The rule is asked twice: of the text, before anything is imported (`check_target`), and of the
object that it turned out to be (`check_object`). Both judge the place where a thing is defined, so
that a way round through an import of ours (`dltrain.data.mnist.os.system`) leads nowhere.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import partial

from dltrain.config.bindings import TargetError
from dltrain.config.sources import locate

# Classes of the rooms that hold parts. Not functions, some of which download or write, nor what
# runs the program: a config that calls dltrain.cli could hand itself every permission.
PARTS = tuple(
    f"dltrain.{room}"
    for room in (
        "data", "models", "tasks", "optimizers", "schedulers", "callbacks", "loggers",
        "interpret", "export",
    )
)  # fmt: skip
# Classes alone: modules, optimizers, transforms. Some of the functions there load or fetch.
CLASSES = ("torch.nn", "torch.optim", "torchvision.models", "torchvision.transforms")


def check_target(
    target: str, allowed: Sequence[str] = (), *, rooms: Sequence[str] | None = None
) -> None:
    """Refuses a dotted name that is not defined where it may be, judging by source text alone.

    Args:
        allowed: packages or modules that the user's own command line vouches for.
        rooms: where it has to be defined, of what may be named at all; None where that is open.

    Raises TargetError: there is no such thing, or it is not allowed.
    """
    definition = locate(target)
    node = definition.node
    if not _is_allowed(definition.module.name, isinstance(node, ast.ClassDef), allowed):
        raise _refusal(target, definition.module.name, definition.qualname)
    if rooms is not None and not _is_within(definition.module.name, (*rooms, *allowed)):
        raise TargetError(f"`{target}` is of another kind; here goes a class of {', '.join(rooms)}")


def check_object(obj: object, allowed: Sequence[str] = ()) -> None:
    """The same of the object that a `_target_` was resolved to. Raises TargetError."""
    while isinstance(obj, partial):
        obj = obj.func
    module = getattr(obj, "__module__", None) or type(obj).__module__
    qualname = getattr(obj, "__qualname__", None) or type(obj).__qualname__
    if not _is_allowed(module, isinstance(obj, type), allowed):
        raise _refusal(f"{module}.{qualname}", module, qualname)


def _is_allowed(module: str, is_class: bool, allowed: Sequence[str]) -> bool:
    ours = is_class and _is_within(module, (*PARTS, *CLASSES))
    return ours or _is_within(module, allowed)


def _refusal(target: str, module: str, qualname: str) -> TargetError:
    place = f"{module}.{qualname}"
    alias = f" ({place})" if place != target else ""
    return TargetError(
        f"`{target}`{alias} is not allowed as a _target_: classes of dltrain are, and of "
        f"{', '.join(CLASSES)}; if you trust its code, add --allow-target {module.split('.')[0]}"
    )


def _is_within(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
