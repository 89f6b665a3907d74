"""Paired timing: the variants in turn, ratios within a round, medians with their spread."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable


def compare(
    variants: dict[str, Callable[[], float]], *, rounds: int, unit: str, against: str
) -> dict[str, list[float]]:
    """Runs every variant once a round, the starting place turning, and prints a table.

    A variant gives its speed, in `unit`; one round more than asked for warms up.
    """
    values: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            values[name].append(variants[name]())
    values = {name: found[1:] for name, found in values.items()}
    width = max(map(len, names))
    print(f"{'':<{width}} {unit:>12} {'smallest..largest':>24}   times {against} (spread)")
    for name, found in values.items():
        ratios = [a / b for a, b in zip(found, values[against], strict=True)]
        print(
            f"{name:<{width}} {statistics.median(found):>12,.0f} "
            f"{f'({min(found):,.0f}..{max(found):,.0f})':>24}   "
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f}..{max(ratios):.3f})"
        )
    print(f"{rounds} rounds, load {os.getloadavg()[0]:.1f} at the end")
    return values


def say_ratio(values: dict[str, list[float]], name: str, against: str) -> None:
    ratios = [a / b for a, b in zip(values[name], values[against], strict=True)]
    spread = f"({min(ratios):.3f}..{max(ratios):.3f})"
    print(f"{name} / {against}: {statistics.median(ratios):.3f} {spread}")
