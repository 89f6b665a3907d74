"""Text for the cells of a CSV file that a stranger's data decide: a spreadsheet runs none of it."""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would compute


def no_formula(text: str) -> str:
    """`=HYPERLINK(...)` with an apostrophe before it, as spreadsheets themselves mark text."""
    return f"'{text}" if text.startswith(FORMULA) else text


def no_formula_path(path: str) -> str:
    """The same for a path, which stays one: `./=x.png`."""
    return f"./{path}" if path.startswith(FORMULA) else path
