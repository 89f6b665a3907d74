"""Small files that anybody may have written, as plain data: no code, no links, bounded memory."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

MAX_BYTES = 1 << 20  # what a config or a record has at the very most; as brackets, 25 MB of lists
MAX_DEPTH = 64
MAX_VALUES = 30_000  # OmegaConf takes 0.1 ms and 2 KB for each
MAX_NUMBER = (
    100  # characters: 1:1:1:1... is a number too, of any size, and takes its square in time
)
# What is wrong with a file; RecursionError: a json without end
PLAIN_ERRORS = (OSError, ValueError, ArithmeticError, yaml.YAMLError, RecursionError)
# libyaml's parser is ten times as fast as Python's
PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
EMITTER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def printable(text: str) -> str:
    """On one line, and steering no terminal, whoever wrote it."""
    return "".join(c if c.isprintable() else "?" for c in text)


class PlainError(ValueError):
    """The file holds more than plain data, or is no file; the message goes behind its name."""


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """What a regular file of at most `max_bytes` holds. Raises as `open_regular` does, and
    UnicodeDecodeError."""
    with open_regular(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise PlainError(f"it has more than {max_bytes:,} bytes")
    return data.decode("utf-8")


def open_regular(path: Path) -> BinaryIO:
    """Raises PlainError for a link, a folder, a pipe or a device, without waiting for it or
    following it, and OSError."""
    if path.is_symlink():
        raise PlainError("it is a link")
    file = open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise PlainError("it is not a regular file")
    return file


def to_yaml(data: Any) -> str:
    """Plain data as text, in its own order."""
    text: str
    try:
        text = yaml.dump(data, Dumper=EMITTER, sort_keys=False, allow_unicode=True)
    except UnicodeEncodeError:  # a path that is no text: libyaml knows no way to write it
        text = yaml.dump(data, Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=True)
    return text


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Raises one of PLAIN_ERRORS."""
    return json.loads(read_text(path, max_bytes))


def parse_json(text: str, max_values: int = MAX_VALUES) -> Any:
    """A value of at most so many, and no deeper than a config. Raises PlainError for more, without
    having made them, and ValueError or RecursionError for what is no json."""
    if count_values(text) > max_values:
        raise PlainError(f"it holds more than {max_values:,} values")
    value = json.loads(text)
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise PlainError(f"it is nested more than {MAX_DEPTH} deep")
        nodes = [each.values() if isinstance(each, dict) else each for each in level
                 if isinstance(each, dict | list)]  # fmt: skip
        level, depth = [child for node in nodes for child in node], depth + 1
    return value


def count_values(text: str) -> int:
    """How many values json holds, at most."""
    outside = _JSON_TEXT.sub("", text)
    return 1 + sum(map(outside.count, ",[{"))


# Linear in whatever there is: possessive, and one without an end takes all that follows
_JSON_TEXT = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


def read_yaml(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Mappings, lists and scalars. Raises one of PLAIN_ERRORS.

    PlainError also for what a run never writes, and what can hide or multiply: anchors, aliases,
    tags, merged and repeated keys.
    """
    text = read_text(path, max_bytes)
    if "\0" in text:
        raise PlainError("it holds a NUL character")
    events = _bounded(yaml.parse(text, Loader=PARSER))
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            value = _value(events, next(events), 0)
            next(events)  # the end of the document
            if not isinstance(next(events), yaml.StreamEndEvent):
                raise PlainError("it has more than one document")
            return value
    return None  # an empty file


def _bounded(events: Iterator[Any]) -> Iterator[Any]:
    for index, event in enumerate(events):
        if index > MAX_VALUES:
            raise PlainError(f"it holds more than {MAX_VALUES:,} values")
        yield event


def _value(events: Iterator[Any], event: Any, depth: int) -> Any:
    line = f"line {event.start_mark.line + 1}: "
    if depth > MAX_DEPTH:
        raise PlainError(f"{line}it is nested more than {MAX_DEPTH} deep")
    if getattr(event, "anchor", None) is not None:
        raise PlainError(f"{line}it has an anchor or an alias")
    if getattr(event, "tag", None) is not None:
        raise PlainError(f"{line}it has the tag {str(event.tag)[:60]!r}")
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event, line)
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(_value(events, event, depth + 1))
        return items
    mapping: dict[Any, Any] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _value(events, event, depth + 1)
        if isinstance(key, list | dict) or key in mapping:
            what = "a key that is no scalar" if isinstance(key, list | dict) else "a key twice"
            raise PlainError(f"line {event.start_mark.line + 1}: it has {what}")
        mapping[key] = _value(events, next(events), depth + 1)
    return mapping


def _scalar(event: yaml.ScalarEvent, line: str) -> Any:
    """The text, or what yaml says that it stands for: a number, true, null, a date."""
    tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)
    if tag == _RESOLVER.DEFAULT_SCALAR_TAG:
        return event.value
    if len(event.value) > MAX_NUMBER:
        raise PlainError(f"{line}it has a number of {len(event.value):,} characters")
    # `<<` has no constructor: a merge is an error
    return _RESOLVER.construct_object(yaml.ScalarNode(tag, event.value, event.start_mark))


_RESOLVER = yaml.SafeLoader("")
