"""`sweep.when`: a key is swept over only in jobs where its conditions hold."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from dltrain.config.grammar import write
from dltrain.errors import UserError


@dataclass(frozen=True)
class Condition:
    """`model=cnn,resnet*`: the key has one of these values; `model!=linear`: none of them."""

    key: str
    patterns: tuple[str, ...]
    negated: bool = False

    def holds(self, value: Any) -> bool:
        found = any(matches(value, pattern) for pattern in self.patterns)
        return found != self.negated

    def __str__(self) -> str:
        return f"{self.key}{'!=' if self.negated else '='}{','.join(self.patterns)}"


def matches(value: Any, pattern: str) -> bool:
    """value: of a config, or as it is written in an override."""
    text = unquoted(value if isinstance(value, str) else write(value))
    with suppress(ValueError):
        return float(text) == float(pattern)
    return fnmatchcase(text, pattern)


def unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text


def read_conditions(when: Mapping[str, Any] | None) -> dict[str, list[Condition]]:
    """Swept key -> all that must hold. Raises UserError for what is no condition."""
    found: dict[str, list[Condition]] = {}
    for key, value in (when or {}).items():
        if not isinstance(key, str) or not value:
            raise UserError(f"sweep.when holds {key!r}: {value!r}; write key: model=cnn")
        listed = value if isinstance(value, list) else [value]
        found[key.lstrip("+")] = [each for part in listed for each in conditions_of(key, part)]
    return found


def conditions_of(key: str, part: Any) -> list[Condition]:
    if isinstance(part, Mapping):
        return [Condition(str(name), patterns_of(value)) for name, value in part.items()]
    name, equals, values = str(part).partition("=")
    negated = name.endswith("!")
    name = name.removesuffix("!").strip()
    if not equals or not name or not values.strip():
        raise UserError(
            f"sweep.when.{key} is {part!r}; write a condition, such as model=cnn, model=cnn,mlp, "
            "model=resnet* or model!=linear"
        )
    return [Condition(name, tuple(each.strip() for each in values.split(",")), negated)]


def patterns_of(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    return tuple(unquoted(each if isinstance(each, str) else write(each)) for each in listed)
