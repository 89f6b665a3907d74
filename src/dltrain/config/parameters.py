"""The parameters that a function or a dataclass declares, read from its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from dltrain.config.annotations import agrees, parse_annotation
from dltrain.config.bindings import DefinitionNode, FunctionNode


@dataclass(frozen=True)
class Parameter:
    """One parameter; `annotation` is its text, None where there is none that can be relied on."""

    name: str
    annotation: str | None = None
    required: bool = True
    keyword_only: bool = False
    positional_only: bool = False


def of_function(node: FunctionNode, *, skip_first: bool) -> list[Parameter]:
    """The parameters in order; `skip_first` leaves out `self` or `cls`."""
    arguments = node.args
    positional = arguments.posonlyargs + arguments.args
    missing = [None] * (len(positional) - len(arguments.defaults))
    defaults: list[ast.expr | None] = [*missing, *arguments.defaults]
    parameters = [
        _parameter(each, default, positional_only=index < len(arguments.posonlyargs))
        for index, (each, default) in enumerate(zip(positional, defaults, strict=True))
    ]
    parameters = parameters[1:] if skip_first else parameters
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return parameters + [_parameter(each, default, keyword_only=True) for each, default in named]


def of_fields(bodies: Iterable[ast.ClassDef]) -> list[Parameter]:
    """The fields that a dataclass and its bases (these first) or a NamedTuple are made from."""
    found: dict[str, Parameter | None] = {}
    for body in bodies:
        keyword_only = _is_true(decorator_keyword(body, "dataclass", "kw_only"))
        for each in body.body:
            if not isinstance(each, ast.AnnAssign) or not isinstance(each.target, ast.Name):
                continue
            kind = ast.unparse(each.annotation).partition("[")[0].rpartition(".")[2]
            if kind == "KW_ONLY":
                keyword_only = True
            elif kind != "ClassVar":
                found[each.target.id] = _field(each.target.id, each, keyword_only)
    return [parameter for parameter in found.values() if parameter is not None]


def is_decorated(node: DefinitionNode, name: str) -> bool:
    """By a decorator of this name, wherever it was imported from."""
    return any(_decorator_name(each) == name for each in node.decorator_list)


def decorator_keyword(node: DefinitionNode, name: str, keyword: str) -> ast.expr | None:
    """The value of `keyword` in `@name(keyword=value)`."""
    for each in node.decorator_list:
        if isinstance(each, ast.Call) and _decorator_name(each) == name:
            return _keyword(each, keyword)
    return None


def _parameter(
    argument: ast.arg,
    default: ast.expr | None,
    *,
    keyword_only: bool = False,
    positional_only: bool = False,
) -> Parameter:
    annotation = _reliable(argument.annotation, default)
    return Parameter(argument.arg, annotation, default is None, keyword_only, positional_only)


def _field(name: str, statement: ast.AnnAssign, keyword_only: bool) -> Parameter | None:
    """None for a field that the constructor does not take."""
    default = statement.value
    if isinstance(default, ast.Call) and _decorator_name(default) == "field":
        call = default
        if isinstance(init := _keyword(call, "init"), ast.Constant) and init.value is False:
            return None
        own = _keyword(call, "kw_only")
        keyword_only = keyword_only if own is None else _is_true(own)
        default = _keyword(call, "default") or _keyword(call, "default_factory")
    annotation = _reliable(statement.annotation, default)
    return Parameter(name, annotation, default is None, keyword_only)


def _reliable(annotation: ast.expr | None, default: ast.expr | None) -> str | None:
    """The annotation's text, if the parameter's own default does not contradict it."""
    if annotation is None:
        return None
    node = parse_annotation(ast.unparse(annotation))
    text = ast.unparse(node) if node is not None else None
    if text is None or default is None:
        return text
    try:
        value = ast.literal_eval(default)
    except (ValueError, TypeError):  # an expression
        return text
    if agrees(value, text):
        return text
    return f"{text} | None" if value is None else None


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((each.value for each in call.keywords if each.arg == name), None)


def _is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _decorator_name(node: ast.expr) -> str:
    """`dataclass` for `@dataclasses.dataclass(frozen=True)`."""
    function = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(function).rpartition(".")[2]
