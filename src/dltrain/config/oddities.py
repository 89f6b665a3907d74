"""Overrides that no one means: refused before Hydra's grammar spends seconds on them."""

from __future__ import annotations

import re
import unicodedata

from dltrain.errors import UserError

MAX_LENGTH, MAX_KEY, MAX_DIGITS, MAX_DEPTH = 20_000, 200, 400, 48
MAX_SHOWN = 60


def refuse_oddity(text: str) -> None:
    """Raises UserError for one override that is too long, too deep, or no text."""
    if problem := oddity(text):
        raise UserError(f"`{visible(text)}` {problem}")


def oddity(text: str) -> str | None:
    kinds = {unicodedata.category(character) for character in text}
    if "Cs" in kinds:
        return "is not UTF-8 text"
    if "Cc" in kinds:
        return "holds a control character, such as a line's end; write key=value on one line"
    if len(text) > MAX_LENGTH:
        return f"has {len(text)} characters; at most {MAX_LENGTH} are read: use a yaml instead"
    if len(text.partition("=")[0]) > MAX_KEY:
        return f"has a key of more than {MAX_KEY} characters; no config key is as long"
    if digits := re.search(rf"[0-9]{{{MAX_DIGITS},}}", text):
        return f"holds a number of {len(digits[0])} digits; none is as large"
    if depth(text) > MAX_DEPTH:
        return f"is nested more than {MAX_DEPTH} deep"
    return None


def depth(text: str) -> int:
    """How many brackets are open at once, at most."""
    deepest = open_now = 0
    for character in re.findall(r"[\[\](){}]", text):
        open_now += 1 if character in "[({" else -1
        deepest = max(deepest, open_now)
    return deepest


def visible(text: str) -> str:
    """Its beginning; what steers a terminal, or is no character, is spelled out."""
    start = text[:MAX_SHOWN] + ("..." if len(text) > MAX_SHOWN else "")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in start)
