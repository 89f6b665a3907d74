"""Which names could have been meant by one that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

CUTOFF = 0.7  # difflib's 0.6 offers noise for short names: `sgd` and `std` are 0.67 alike
MAX_NAMES = 3


def near_names(name: str, choices: Iterable[str], *, limit: int = MAX_NAMES) -> list[str]:
    """The `choices` that resemble `name`, best first; letter case does not count.

    Names can be dotted: a choice is found by its whole (`optimzer.lr`), by its last component
    (`lr` -> `optimizer.lr`), and by that component's initials (`learning_rate` -> `lr`).
    """
    scored = [
        (_likeness(name.lower(), choice.lower()), choice) for choice in dict.fromkeys(choices)
    ]
    near = [pair for pair in scored if pair[0] >= CUTOFF]
    best = max((score for score, _ in near), default=0.0)
    # Beside a near certainty, what merely resembles it would only distract.
    near = [pair for pair in near if pair[0] >= best - 0.15]
    return [choice for _, choice in sorted(near, key=lambda pair: -pair[0])[:limit]]


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """``did you mean `optimizer.lr`?``, with up to three names; empty where nothing is near."""
    names = [f"`{near}`" for near in near_names(name, choices)]
    if not names:
        return ""
    listed = " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"did you mean {listed}?"


def _likeness(name: str, choice: str) -> float:
    """From 0 to 1, both in lower case."""
    if name == choice:
        return 1.0
    parent, _, last = name.rpartition(".")
    choice_parent, _, choice_last = choice.rpartition(".")
    last_alike = _component(last, choice_last)
    if not parent:
        return max(_ratio(name, choice), 0.98 * last_alike)
    if parent == choice_parent:  # spelt right, so that only the rest is in doubt
        return 0.98 * last_alike
    comparable = bool(choice_parent) and last_alike >= CUTOFF
    whole = min(_ratio(name, choice), 0.97) if comparable else 0.0
    return max(whole, 0.9 if last == choice_last else 0.0)


def _component(name: str, choice: str) -> float:
    if name == choice:
        return 1.0
    if name and choice and (name == _initials(choice) or choice == _initials(name)):
        return 0.85
    return _ratio(name, choice)


def _ratio(name: str, choice: str) -> float:
    matcher = SequenceMatcher(None, name, choice)
    if matcher.real_quick_ratio() < CUTOFF or matcher.quick_ratio() < CUTOFF:
        return 0.0
    return matcher.ratio()


def _initials(name: str) -> str:
    """`lr` for `learning_rate`; empty for a single word, which has no abbreviation."""
    words = re.findall(r"[a-z0-9]+", name)
    return "".join(word[0] for word in words) if len(words) > 1 else ""
