"""Hydra's grammar as plain data: what an override sweeps over, and how a value is written."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from hydra._internal.grammar.utils import escape_special_characters
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
)
from hydra.errors import HydraException

from dltrain.config.messages import shorten
from dltrain.config.oddities import refuse_oddity
from dltrain.errors import UserError

MAX_VALUES = 100_000  # of one key


@dataclass(frozen=True)
class Interval:
    """All numbers from `low` to `high`; `log`: as many below their geometric mean as above."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Term:
    """One override as it counts for a sweep: fixed, or `values` to try, or an interval of them."""

    key: str  # as it is typed, with its + or ~
    text: str  # the whole override, as it was typed
    values: tuple[str, ...] = ()  # as they are written after the =; empty where it is fixed
    interval: Interval | None = None
    fixed: str = ""  # the value, as it is written, of one that is not swept

    @property
    def bare_key(self) -> str:
        return self.key.lstrip("+~")

    @property
    def is_swept(self) -> bool:
        return bool(self.values) or self.interval is not None


def read_terms(
    overrides: Sequence[str], config_loader: ConfigLoader | None = None, seed: int = 0
) -> list[Term]:
    """Raises UserError for an override that sweeps over nothing.

    config_loader: for `glob(...)`, which asks for the choices of a group; seed: of `shuffle(...)`.
    """
    for text in overrides:
        refuse_oddity(text)
    parser = OverridesParser.create(config_loader=config_loader)
    return [term(each, seed) for each in parser.parse_overrides(list(overrides))]


def term(override: Override, seed: int) -> Term:
    key, text = override.get_key_element(), override.input_line or ""
    value = override.value()
    if not override.is_sweep_override():
        return Term(key, text, fixed="" if override.is_delete() else write(value))
    if isinstance(value, IntervalSweep):
        return Term(key, text, interval=interval(value, text))
    return Term(key, text, written(found_values(override, text, seed), f"`{shorten(text, 100)}`"))


def written(found: list[Any], where: str) -> tuple[str, ...]:
    if not found:
        raise UserError(f"{where} gives no value to try")
    seen: set[Any] = set()
    for value in found:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        same = value if is_number else write(value)  # 1 and 1.0 are one value
        if same in seen:
            raise UserError(f"{where} gives {write(value)} twice, which makes equal jobs")
        seen.add(same)
    return tuple(map(write, found))


def found_values(override: Override, text: str, seed: int) -> list[Any]:
    """In order; what is shuffled has the same order at every start, so that it can go on."""
    value: Any = override.value()
    if isinstance(value, Glob):
        return list(override.sweep_iterator())
    assert isinstance(value, ChoiceSweep | RangeSweep)
    try:
        source: Iterable[Any] = value.list if isinstance(value, ChoiceSweep) else value.range()
        found = list(islice(source, MAX_VALUES + 1))
    except (HydraException, ValueError, ArithmeticError) as error:
        raise UserError(f"`{text}` is no range: its step must lead from start to stop") from error
    if len(found) > MAX_VALUES:
        raise UserError(
            f"`{text}` gives more than {MAX_VALUES} values; draw some: sweep.random=100"
        )
    if value.shuffle:
        random.Random(f"{seed}:{override.key_or_group}").shuffle(found)
    return found


def interval(value: IntervalSweep, text: str) -> Interval:
    low, high, tags = value.start, value.end, value.tags
    if low is None or high is None or not -math.inf < low < high < math.inf:
        raise UserError(f"`{text}`: an interval goes from a number to a larger one")
    if unknown := sorted(tags - {"log"}):
        raise UserError(f"`{text}`: there is no tag {unknown[0]}; of an interval it may be log")
    if "log" in tags and low <= 0:
        raise UserError(f"`{text}`: what is drawn on a log scale must be > 0")
    return Interval(low, high, "log" in tags, isinstance(low, int) and isinstance(high, int))


def term_of(key: str, value: Any, config_loader: ConfigLoader | None, seed: int) -> Term:
    """What a file says of a key: a list of values, or text as it would be typed after the `=`."""
    if isinstance(value, str):
        found = read_terms([f"{key}={value}"], config_loader, seed)[0]
        return found if found.is_swept else Term(key, found.text, (found.fixed,))
    listed = value if isinstance(value, list) else [value]
    return Term(key, f"{key}={write(value)}", written(listed, f"the list of `{key}`"))


def write(value: Any) -> str:
    """A value so that Hydra reads it back as the same: text is quoted where it must be."""
    if isinstance(value, dict):
        pairs = [f"{escape_special_characters(str(k))}:{write(v)}" for k, v in value.items()]
        return "{" + ",".join(pairs) + "}"  # a key cannot be quoted there
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(write, value)) + "]"
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    if isinstance(value, QuotedString):
        return str(value.with_quotes())
    if isinstance(value, str):
        return write_text(value)
    return str(value)


def write_text(text: str) -> str:
    plain = text.replace("_", "").replace("-", "").replace("/", "").replace(".", "")
    if plain.isascii() and plain.isalnum() and read_back(text) == text:
        return text
    return str(QuotedString(text=text, quote=Quote.single).with_quotes())


def read_back(text: str) -> Any:
    """What Hydra makes of a value; None where it is none."""
    try:
        override = OverridesParser.create().parse_override(f"key={text}")
    except (HydraException, ValueError):
        return None
    return None if override.is_sweep_override() else override.value()
