"""The directory of a job: its number and what it varies, for every file system and in order."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping

MAX_BYTES = 120  # of the 255 of most file systems; encrypted ones leave 143
MAX_VALUE = 24  # characters of one value


def job_directory(number: int, swept: Mapping[str, str], num_jobs: int) -> str:
    """`03_lr=0.1,seed=2`: its number has as many digits as the last one's, so that `ls` and
    TensorBoard list the jobs in order. What finds no room is left out: the number tells them apart.

    swept: key -> value, as it is written in an override.
    """
    start = f"{number:0{len(str(max(num_jobs - 1, number, 0)))}}"
    names = short_keys(swept)
    parts = [f"{names[key]}={readable(value)}" for key, value in swept.items()]
    for count in range(len(parts), 0, -1):
        more = f",+{len(parts) - count}" if count < len(parts) else ""
        name = f"{start}_{','.join(parts[:count])}{more}"
        if len(name.encode()) <= MAX_BYTES:
            return name
    return start


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """`optimizer.lr` is `lr`, unless another key ends so: then as much more as tells them apart."""
    keys = list(keys)
    return {key: shortest(key, keys) for key in keys}


def shortest(key: str, keys: Collection[str]) -> str:
    parts = re.split(r"[./@]", key)
    for count in range(1, len(parts) + 1):
        short = ".".join(parts[-count:])
        same = [each for each in keys if re.split(r"[./@]", each)[-count:] == parts[-count:]]
        if len(same) == 1:
            return clean(short)
    return clean(key)


def readable(value: str) -> str:
    """A value as a part of a name: `[64,64]` is 64-64; the middle of a long one is left out."""
    text = clean(value.strip("[](){}'\" "))
    if len(text) > MAX_VALUE:
        text = f"{text[: MAX_VALUE // 3]}~{text[-MAX_VALUE * 2 // 3 + 1 :]}"
    return text


def clean(text: str) -> str:
    """Letters and digits of any script, `_ . + -` and `~`; the rest is a `-`."""
    composed = unicodedata.normalize("NFC", text)  # macOS would read back another spelling
    printable = "".join(c if c.isprintable() else "-" for c in composed)
    safe = re.sub(r"[^\w.+~-]+", "-", printable).rstrip("-.")
    return (safe if re.match(r"-\.?\d", safe) else safe.lstrip("-.")) or "-"
