"""Checks the arguments of a `_target_` against its signature, as its source has it.

Nothing is imported, so that a misspelt `optimizer.lr` is answered before torch has been loaded.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from dltrain.config.annotations import agrees, in_words
from dltrain.config.bindings import Binding, FunctionNode, TargetError
from dltrain.config.near import did_you_mean
from dltrain.config.parameters import (
    Parameter,
    decorator_keyword,
    is_decorated,
    of_fields,
    of_function,
)
from dltrain.config.sources import Definition, class_names, lineage, locate, related

__all__ = ["Parameter", "Signature", "TargetError", "check_arguments", "read_signature"]

HYDRA_KEYS = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_")
TRANSPARENT_BASES = ("builtins.object", "typing.Generic", "typing.Protocol", "abc.ABC")
MAX_LISTED = 16  # more names than this are a wall, not a help


@dataclass(frozen=True)
class Signature:
    """What a constructor or a function takes, without `self`, and where it is defined."""

    target: str
    kind: str  # "class" or "function"
    parameters: list[Parameter]
    accepts_any_keyword: bool  # it has **kwargs
    accepts_any_positional: bool  # it has *args
    file: str
    line: int


def read_signature(target: str) -> Signature | None:
    """The signature of the class or function with the dotted name `target`.

    None where it exists but cannot be read (C, made while importing, or so is a base of it): then
    nothing can be checked. Raises TargetError where there is nothing of that name.
    """
    definition = locate(target)
    if isinstance(definition.node, ast.ClassDef):
        return _constructor(target, definition)
    if definition.node is None:
        return None
    bound = definition.owner is not None and not is_decorated(definition.node, "staticmethod")
    if bound and not is_decorated(definition.node, "classmethod"):
        raise TargetError(f"`{target}` is a method of an instance; name a class or a function")
    parameters = of_function(definition.node, skip_first=bound)
    return _signature(target, definition, parameters, definition.node.args)


def check_arguments(
    signature: Signature, arguments: Mapping[str, object], *, partial: bool = False, key: str = ""
) -> list[str]:
    """What is wrong with `arguments` (plain data, of a yaml), one line each; empty if nothing is.

    Found are unknown names, required arguments that are missing, and values whose plain type
    contradicts a simple annotation. Hydra's own keys are passed over, and a mapping with a
    `_target_` of its own is taken for whatever is wanted.

    Args:
        partial: more arguments will be given later, so that none is missing; also where
            `arguments` says `_partial_: true`.
        key: the dotted config key that holds `arguments`, for the messages.
    """
    prefix = f"{key}." if key else ""
    partial = partial or arguments.get("_partial_") is True
    positional = arguments.get("_args_", ())
    num_positional = len(positional) if isinstance(positional, list | tuple) else 0
    by_position = [each for each in signature.parameters if not each.keyword_only][:num_positional]
    by_name = {each.name: each for each in signature.parameters if not each.positional_only}
    problems = []
    for name, value in arguments.items():
        if name in HYDRA_KEYS:
            continue
        if name in by_name:
            problems += _type_problem(signature, by_name[name], value, prefix)
        elif not signature.accepts_any_keyword:
            names = [each for each in by_name if not partial or each != "params"]
            problems.append(_unknown(signature, str(name), names, prefix))
    for parameter in signature.parameters:
        given = parameter.name in arguments or parameter in by_position
        if parameter.required and not given and not partial:
            problems.append(f"{prefix}{parameter.name} is missing; {signature.target} requires it")
    return problems


def _type_problem(
    signature: Signature, parameter: Parameter, value: object, prefix: str
) -> list[str]:
    if parameter.annotation is None or agrees(value, parameter.annotation):
        return []
    wanted = in_words(parameter.annotation)
    shown = str(value).lower() if isinstance(value, bool) else repr(value).replace("None", "null")
    return [f"{prefix}{parameter.name} is {shown}; it must be {wanted} ({signature.target})"]


def _unknown(signature: Signature, name: str, names: list[str], prefix: str) -> str:
    message = f"{prefix}{name} is not an argument of {signature.target}"
    if near := did_you_mean(prefix + name, [prefix + each for each in names]):
        message += f"; {near}"
    if len(names) <= MAX_LISTED:
        message += f" (it takes {', '.join(names) or 'none'})"
    return message


def _constructor(target: str, definition: Definition) -> Signature | None:
    """Of the first class in the lineage that says how it is made."""
    for each in lineage(definition):
        node = each.node
        if not isinstance(node, ast.ClassDef):
            if each.target in TRANSPARENT_BASES:
                continue
            is_tuple = each.target == "typing.NamedTuple"
            return _signature(target, definition, _declared(definition, "")) if is_tuple else None
        if _is_made_otherwise(each):
            return None
        bound = class_names(each).bound
        for name in ("__init__", "__new__"):
            if name in bound:
                return _of_method(target, definition, bound[name])
        if is_decorated(node, "dataclass") and not _is_false(node, "init"):
            return _signature(target, definition, _declared(each, "dataclass"))
    return _signature(target, definition, [])


def _of_method(target: str, definition: Definition, method: Binding) -> Signature | None:
    if not isinstance(method, FunctionNode):
        return None
    parameters = of_function(method, skip_first=True)
    return _signature(target, definition, parameters, method.args)


def _signature(
    target: str,
    definition: Definition,
    parameters: list[Parameter],
    arguments: ast.arguments | None = None,
) -> Signature:
    node, file = definition.node, definition.module.file
    assert node is not None
    assert file is not None
    return Signature(
        target=target,
        kind="class" if isinstance(node, ast.ClassDef) else "function",
        parameters=parameters,
        accepts_any_keyword=arguments is not None and arguments.kwarg is not None,
        accepts_any_positional=arguments is not None and arguments.vararg is not None,
        file=file,
        line=node.lineno,
    )


def _declared(definition: Definition, decorator: str) -> list[Parameter]:
    """The fields of the class and of its bases that bear `decorator`, or of the class alone."""
    family = list(lineage(definition))[::-1] if decorator else [definition]
    bodies = [each.node for each in family if isinstance(each.node, ast.ClassDef)]
    return of_fields(each for each in bodies if not decorator or is_decorated(each, decorator))


def _is_made_otherwise(definition: Definition) -> bool:
    """By attrs, or by a metaclass that does not call `__init__` with what it is given."""
    node = definition.node
    assert isinstance(node, ast.ClassDef)
    decorators = [related(each, definition.module).target for each in node.decorator_list]
    if any(target.startswith(("attr.", "attrs.")) for target in decorators):
        return True
    metaclass = next((each.value for each in node.keywords if each.arg == "metaclass"), None)
    if metaclass is None or ast.unparse(metaclass).rpartition(".")[2] == "ABCMeta":
        return False
    found = related(metaclass, definition.module)
    return isinstance(found.node, ast.ClassDef) and "__call__" in class_names(found).bound


def _is_false(node: ast.ClassDef, keyword: str) -> bool:
    value = decorator_keyword(node, "dataclass", keyword)
    return isinstance(value, ast.Constant) and value.value is False
