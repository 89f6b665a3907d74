"""What the statements of a Python file bind, read from its text: imports, definitions, aliases."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from dltrain.errors import UserError

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
DefinitionNode = ast.ClassDef | FunctionNode


class TargetError(UserError, ValueError):
    """A `_target_` that cannot be used; the message is the whole story."""


@dataclass(frozen=True)
class Import:
    """What `from module import name` binds, or `import module` where `name` is None."""

    module: str
    name: str | None = None


Binding = DefinitionNode | Import | ast.expr | None  # None: bound, but not to anything readable


@dataclass
class Names:
    """What the statements of a module or of a class bind."""

    bound: dict[str, Binding] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)  # modules of `from module import *`
    exported: frozenset[str] | None = None  # a literal `__all__`
    dynamic: bool = False  # may hold names that no statement binds

    def exports(self, name: str) -> bool:
        """Whether `import *` takes `name` along."""
        return name in self.exported if self.exported is not None else not name.startswith("_")


@lru_cache(maxsize=512)
def read_names(file: str, mtime_ns: int, package: str) -> Names:
    """The names of the module in `file`, whose relative imports start from `package`.

    `mtime_ns` is there so that a file that was edited is read again. Raises TargetError where the
    file does not parse.
    """
    with open(file, "rb") as source:
        text = source.read()
    try:
        tree = ast.parse(text, filename=file)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise TargetError(f"{file}, line {line}: {getattr(error, 'msg', error)}") from error
    names = scan(tree.body, package)
    names.dynamic = "__getattr__" in names.bound or b"globals()" in text
    return names


def scan(statements: Iterable[ast.stmt], package: str) -> Names:
    """The names that `statements`, the body of a module or a class, bind."""
    names = Names()
    for statement in statements:
        blocks = _blocks(statement)
        if not blocks:
            _bind(statement, names, package)
            continue
        # Of alternatives (if, else; try, except) the first counts: the one that is meant to run.
        inner: dict[str, Binding] = {}
        for block in blocks:
            found = scan(block, package)
            inner = found.bound | inner
            names.stars += found.stars
        names.bound |= inner
    return names


def _blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    if isinstance(statement, DefinitionNode):
        return []
    blocks = [getattr(statement, name, []) for name in ("body", "orelse", "finalbody")]
    blocks += [handler.body for handler in getattr(statement, "handlers", [])]
    return [block for block in blocks if block]


def _bind(statement: ast.stmt, names: Names, package: str) -> None:
    bound = names.bound
    if isinstance(statement, DefinitionNode):
        bound[statement.name] = statement  # of several the last, which follows its @overloads
    elif isinstance(statement, ast.Import):
        for alias in statement.names:
            name = alias.asname or alias.name.partition(".")[0]
            bound[name] = Import(alias.name if alias.asname else name)
    elif isinstance(statement, ast.ImportFrom):
        source = _source(statement, package)
        names.stars += [source for alias in statement.names if alias.name == "*"]
        bound |= {each.asname or each.name: Import(source, each.name) for each in statement.names}
        bound.pop("*", None)
    elif isinstance(statement, ast.Delete):
        for target in statement.targets:
            bound.pop(ast.unparse(target), None)
    elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
        _assign(statement, names)


def _assign(statement: ast.Assign | ast.AnnAssign, names: Names) -> None:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    for target in targets:
        if isinstance(target, ast.Name):
            names.bound[target.id] = statement.value
        elif isinstance(target, ast.Tuple | ast.List):
            names.bound |= {each.id: None for each in target.elts if isinstance(each, ast.Name)}
    if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
        names.exported = _strings(statement.value)


def _strings(node: ast.expr | None) -> frozenset[str] | None:
    try:
        return frozenset(ast.literal_eval(node)) if node is not None else None
    except (ValueError, TypeError):
        return None


def _source(statement: ast.ImportFrom, package: str) -> str:
    """The full name of the module after `from`."""
    if not statement.level:
        return statement.module or ""
    base = package.rsplit(".", statement.level - 1)[0] if statement.level > 1 else package
    return f"{base}.{statement.module}" if statement.module else base
