"""`--where 'optimizer.lr > 0.01 and model == cnn'`: comparisons, joined by `and`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from dltrain.compare.run import Value
from dltrain.compare.settings import show
from dltrain.errors import UserError

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
# A name, an operator, and a value that is quoted or ends at the next space; a list may have spaces
CONDITION = re.compile(
    r"""\s*([^\W\d][\w./:@+-]*)\s*(==|!=|<=|>=|<|>)\s*
    ("[^"]*"|'[^']*'|\[[^\]]*\]|[^\s=!<>'"\[\](),;&|]+)\s*""",
    re.X,
)
MAX_TEXT = 10_000
WORDS = {"True": "true", "False": "false", "None": "null"}
GRAMMAR = "write KEY OP VALUE, OP one of ==, !=, <, <=, >, >=, several joined by `and`"


@dataclass(frozen=True)
class Condition:
    key: str
    operator: str
    value: str

    def holds(self, value: Value) -> bool:
        """Numbers are compared as numbers, all else as text; what a run has not is only `!=`."""
        compare = OPERATORS[self.operator]
        given, wanted = as_number(value), as_number(self.value)
        if given is not None and wanted is not None:
            return compare(given, wanted)
        if self.operator not in ("==", "!="):
            return False
        return (same(show(value)) == same(self.value)) == (self.operator == "==")


def parse(text: str) -> list[Condition]:
    """Raises UserError for what the grammar has not."""
    if len(text) > MAX_TEXT:
        raise UserError(f"--where has {len(text):,} characters; {MAX_TEXT:,} are allowed")
    conditions, at = [], 0
    while True:
        match = CONDITION.match(text, at)
        if not match:
            raise refusal(text, at)
        key, sign, value = match.groups()
        conditions.append(Condition(key, sign, unquoted(value)))
        check_order(conditions[-1])
        if match.end() == len(text):
            return conditions
        joint = re.compile(r"and(?=\s)").match(text, match.end())
        if not joint or not text[match.end() - 1].isspace():
            raise refusal(text, match.end())
        at = joint.end()


def refusal(text: str, at: int) -> UserError:
    near = text[at:].strip()[:60] or "its end"
    if re.match(r"[^\s=!<>]+\s*=(?!=)", near):
        return UserError(f"--where: `{near}` has one `=`; equality is `==`")
    return UserError(f"--where is not understood from `{near}` on; {GRAMMAR}")


def check_order(condition: Condition) -> None:
    if condition.operator in ("==", "!=") or as_number(condition.value) is not None:
        return
    raise UserError(
        f"--where: `{condition.key}{condition.operator}{condition.value}` needs a number"
    )


def unquoted(text: str) -> str:
    return text[1:-1] if text[0] in "'\"" else text


def as_number(value: Value) -> float | None:
    """Of a number, or of the text of one (a version, a duration and `nan` are none), and of a list
    of one: names of jobs have 32 for `[32]`."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        value = value[1:-1]
    try:
        number = float(value) if "_" not in str(value) else None
    except ValueError:
        return None
    return number if number == number else None


def same(text: str) -> str:
    """Spaces do not count, nor how `true`, `false` and `null` are spelled."""
    text = re.sub(r"\s", "", text)
    return WORDS.get(text, text)
