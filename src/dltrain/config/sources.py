"""Finds where a dotted name is defined by reading source files, without importing any of them.

Only the top-level package is looked up by Python's finders (`find_spec("torch")` imports nothing;
`find_spec("torch.optim")` would import torch). From there on files are found in its folders, parsed
once, and `import`s, re-exports and plain assignments followed to the definition.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from dltrain.config.bindings import (
    Binding,
    DefinitionNode,
    Import,
    Names,
    TargetError,
    read_names,
    scan,
)
from dltrain.config.near import did_you_mean


@dataclass(frozen=True)
class Module:
    """A module or package; `file` is None where it has no Python source (C, frozen, namespace)."""

    name: str
    file: str | None
    locations: tuple[str, ...] = ()

    @property
    def names(self) -> Names:
        if self.file is None:
            # A namespace package holds its submodules and nothing else; of C we cannot know.
            return Names(dynamic=not self.locations)
        package = self.name if self.locations else self.name.rpartition(".")[0]
        return read_names(self.file, os.stat(self.file).st_mtime_ns, package)


@dataclass(frozen=True)
class Definition:
    """A class or function and the module that defines it.

    `node` is None where the definition cannot be read (C, or made while importing); `module` is
    then the last one on the way to it. `owner` is the class that a method stands in.
    """

    module: Module
    qualname: str
    node: DefinitionNode | None = None
    owner: Definition | None = None

    @property
    def target(self) -> str:
        return f"{self.module.name}.{self.qualname}"


Found = Module | Definition


def locate(target: str) -> Definition:
    """The class or function that the dotted name `target` means.

    Raises TargetError: not a dotted name, no such module or name (with near ones), a file that does
    not parse, or neither a class nor a function.
    """
    first, *rest = target.split(".")
    if not rest or not all(part.isidentifier() for part in (first, *rest)):
        raise TargetError(
            f"`{target}` is not the full name of a class; write package.module.Name, "
            "such as torch.optim.AdamW"
        )
    top = find_module(first)
    if top is None:
        near = did_you_mean(first, (module.name for module in pkgutil.iter_modules()))
        cure = near or "install it, or start from the folder that holds it"
        if Path(f"{first}.py").exists() or Path(first).is_dir():
            cure = f"to trust the one in this folder, add --allow-target {first}"
        raise TargetError(f"`{target}`: there is no module `{first}`; {cure}")
    found = _descend(top, rest, target)
    if isinstance(found, Module):
        raise TargetError(f"`{target}` is a module; name a class or function in it")
    return found


def find_module(name: str) -> Module | None:
    """The module of this full name, found without importing it or its parents."""
    first, *rest = name.split(".")
    try:
        module = _as_module(first, importlib.util.find_spec(first))
    except ValueError:  # a module without a spec, such as __main__
        return None
    for part in rest:
        module = module and submodule(module, part)
    return module


def submodule(module: Module, name: str) -> Module | None:
    # The bare name: with a dotted one, namespace packages look for their parent in sys.modules.
    spec = PathFinder.find_spec(name, list(module.locations)) if module.locations else None
    return _as_module(f"{module.name}.{name}", spec)


def attribute(module: Module, name: str, seen: frozenset[Import] = frozenset()) -> Found | None:
    """What `name` means in `module`, followed to where it is defined; None where there is no such.

    `seen` holds the steps so far, for imports that go in a circle.
    """
    step = Import(module.name, name)
    if step in seen:  # as in a package that imports its own submodule by `from package import it`
        return submodule(module, name)
    names, seen = module.names, seen | {step}
    if name in names.bound:
        return _follow(names.bound[name], module, name, seen)
    # What our own package adds lazily is for notebooks, and no target
    unread = Definition(module, name) if names.dynamic and module.name != "dltrain" else None
    for star in reversed(names.stars):
        source = find_module(star)
        if source is None or not source.names.exports(name):
            continue
        found = attribute(source, name, seen)
        if isinstance(found, Definition) and found.node is None:
            unread = found  # a module in C could hold any name: only if no other has it
        elif found is not None:
            return found
    return submodule(module, name) or unread


def expression(
    node: ast.expr, module: Module, seen: frozenset[Import] = frozenset()
) -> Found | None:
    """What a dotted expression such as a base class or a decorator means in `module`."""
    if isinstance(node, ast.Subscript):  # Generic[T]
        return expression(node.value, module, seen)
    if isinstance(node, ast.Call):  # dataclass(frozen=True)
        return expression(node.func, module, seen)
    if isinstance(node, ast.Attribute):
        parent = expression(node.value, module, seen)
        return _descend(parent, [node.attr], ast.unparse(node)) if parent else None
    if not isinstance(node, ast.Name):
        return None
    builtin = Definition(Module("builtins", None), node.id)
    return attribute(module, node.id, seen) or builtin


def class_names(definition: Definition) -> Names:
    """What the body of a class binds."""
    assert isinstance(definition.node, ast.ClassDef)
    return scan(definition.node.body, "")


def lineage(definition: Definition) -> Iterator[Definition]:
    """The class and its bases in the order in which Python looks for a method.

    The last of a repeated base counts, which is Python's order wherever it defines one that is
    consistent. Bases that cannot be read are yielded without a node.
    """
    yield definition  # before its bases are looked for, which costs the parsing of their files
    everyone = list(_depth_first(definition, frozenset()))
    targets = [each.target for each in everyone]
    for index, each in enumerate(everyone):
        if index and each.target not in targets[index + 1 :]:
            yield each


def _depth_first(definition: Definition, above: frozenset[str]) -> Iterator[Definition]:
    yield definition
    if not isinstance(definition.node, ast.ClassDef) or definition.target in above:
        return
    for base in definition.node.bases:
        found = related(base, definition.module)
        if found.target != "builtins.object":
            yield from _depth_first(found, above | {definition.target})


def related(node: ast.expr, module: Module) -> Definition:
    """What a base class, metaclass or decorator is; without its node where that cannot be told."""
    try:
        found = expression(node, module)
    except TargetError:  # a mistake in that file, not in what the user typed
        found = None
    return found if isinstance(found, Definition) else Definition(module, ast.unparse(node))


def _descend(found: Found, parts: list[str], target: str) -> Found:
    for index, name in enumerate(parts):
        rest = parts[index + 1 :]
        if isinstance(found, Definition):
            found = _member(found, name, target)
            continue
        inner = submodule(found, name) if rest else None
        if inner is None:
            found = attribute(found, name) or _missing(found, name, target, is_last=not rest)
            continue
        try:
            return _descend(inner, rest, target)
        except TargetError:
            # A package can hide a submodule behind a class of the same name.
            shadow = attribute(found, name)
            if not isinstance(shadow, Definition):
                raise
            found = shadow
    return found


def _member(definition: Definition, name: str, target: str) -> Definition:
    """A method or nested class, of the class itself or of a base."""
    if definition.node is None:
        return Definition(definition.module, f"{definition.qualname}.{name}")
    if not isinstance(definition.node, ast.ClassDef):
        raise TargetError(f"`{target}`: {definition.target} is a function and has no `{name}`")
    known: list[str] = []
    for each in lineage(definition):
        if not isinstance(each.node, ast.ClassDef):
            return Definition(each.module, f"{each.qualname}.{name}")
        bound = class_names(each).bound
        known += bound
        if name in bound:
            node = bound[name]
            readable = node if isinstance(node, DefinitionNode) else None
            return Definition(each.module, f"{each.qualname}.{name}", readable, owner=each)
    raise TargetError(_no_such(target, name, definition.target, known))


def _missing(module: Module, name: str, target: str, *, is_last: bool) -> Found:
    known = list(_public_names(module))
    if not is_last:
        known += [info.name for info in pkgutil.iter_modules(module.locations)]
    raise TargetError(_no_such(target, name, module.name, known))


def _no_such(target: str, name: str, place: str, known: Iterable[str]) -> str:
    near = did_you_mean(f"{place}.{name}", [f"{place}.{each}" for each in known])
    return f"`{target}`: there is no `{name}` in {place}" + (f"; {near}" if near else "")


def _public_names(module: Module) -> Iterator[str]:
    names = module.names
    yield from (name for name in names.bound if not name.startswith("_"))
    for star in names.stars:
        source = find_module(star)
        if source is not None and source.name != module.name:
            yield from (name for name in source.names.bound if source.names.exports(name))


def _follow(binding: Binding, module: Module, name: str, seen: frozenset[Import]) -> Found | None:
    if isinstance(binding, DefinitionNode):
        return Definition(module, name, binding)
    if isinstance(binding, Import):
        return _imported(binding, seen)
    if isinstance(binding, ast.Constant | ast.List | ast.Tuple | ast.Dict | ast.JoinedStr):
        raise TargetError(f"`{module.name}.{name}` is a value, not a class or function")
    if isinstance(binding, ast.Name | ast.Attribute):
        return expression(binding, module, seen)
    return Definition(module, name)


def _imported(step: Import, seen: frozenset[Import]) -> Found | None:
    source = find_module(step.module)
    if source is None:  # not installed: optional, or a mistake in the file that imports it
        return Definition(Module(step.module, None), step.name or "")
    return source if step.name is None else attribute(source, step.name, seen)


def _as_module(name: str, spec: ModuleSpec | None) -> Module | None:
    if spec is None:
        return None
    origin = spec.origin if spec.has_location and str(spec.origin).endswith(".py") else None
    return Module(name, origin, tuple(spec.submodule_search_locations or ()))
