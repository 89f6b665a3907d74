"""Which of the keys of a space count in a job, as sweep.when says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from dltrain.config.near import did_you_mean
from dltrain.errors import UserError
from dltrain.sweeps.conditions import Condition
from dltrain.sweeps.space import Axis, Row, Space


class Facts(Protocol):
    """What only composing can tell."""

    def value(self, overrides: Sequence[str], key: str) -> Any:
        """The choice of a group, or the value of a key, in the config that these make.

        Raises KeyError where it has none.
        """

    def options(self, group: str) -> list[str]:
        """What can be chosen in a group; empty where there is no such group."""


class Chooser:
    """Which of the keys count in a job, by the conditions of the space."""

    def __init__(self, space: Space, facts: Facts) -> None:
        self.space, self.facts = space, facts
        self.fixed = {t.bare_key: t.fixed for t in space.typed if not t.is_swept}
        self.met: set[str] = set()  # keys of conditions that some config has
        conditions = [each for listed in space.when.values() for each in listed]
        for condition in conditions:
            self.refuse_unknown_choice(condition)
        self.asked = {each.key for each in conditions}
        self.order = self.by_dependency()

    def refuse_unknown_choice(self, condition: Condition) -> None:
        """A condition on a choice that no group has would never hold, and nobody would know why."""
        options = self.facts.options(condition.key)
        for pattern in condition.patterns if options else ():
            if not any(Condition("", (pattern,)).holds(option) for option in options):
                near = did_you_mean(pattern, options) or f"one of {', '.join(options)}"
                asked = f"{condition.key}={pattern}"
                raise UserError(f"sweep.when asks for {asked}, and there is no such choice; {near}")

    def by_dependency(self) -> list[int]:
        """The axes, each after those that its conditions ask about."""
        axes, order = self.space.axes, []
        keys = [{key.lstrip("+") for key in axis.keys} for axis in axes]
        needs = [
            {each.key for key in own for each in self.space.when.get(key, ())} - own for own in keys
        ]
        left = list(range(len(axes)))
        while left:
            undecided = set().union(*(keys[index] for index in left))
            ready = [index for index in left if not needs[index] & (undecided - keys[index])]
            if not ready:
                names = sorted(
                    key for index in left for key in keys[index] & self.space.when.keys()
                )
                raise UserError(f"sweep.when: {' and '.join(names)} wait for each other")
            order.append(ready[0])
            left.remove(ready[0])
        return order

    def different(self, axis: Axis, chosen: Mapping[str, str]) -> Iterator[tuple[int, Row]]:
        """The rows of the axis by number, less those that differ in nothing that counts."""
        if not any(key.lstrip("+") in self.space.when for key in axis.keys):
            yield from enumerate(axis.rows)
            return
        seen: set[frozenset[tuple[str, str]]] = set()
        for number, row in enumerate(axis.rows):
            kept = self.kept(row, chosen)
            if (content := frozenset(kept.items())) not in seen:
                seen.add(content)
                yield number, kept

    def kept(self, row: Row, chosen: Mapping[str, str]) -> Row:
        """What of the row counts beside what has been chosen."""
        kept = dict(row)
        while kept:
            together = {**chosen, **kept}
            gone = next((key for key in kept if not self.counts(key, together)), None)
            if gone is None:
                break
            del kept[gone]
        return kept

    def counts(self, key: str, chosen: Mapping[str, str]) -> bool:
        return all(self.holds(each, chosen) for each in self.space.when.get(key.lstrip("+"), ()))

    def holds(self, condition: Condition, chosen: Mapping[str, str]) -> bool:
        written = (f"{plus}{condition.key}" for plus in ("", "+", "++"))
        key = next((each for each in written if each in chosen), None)
        if key is not None:
            value: Any = chosen[key]
        elif condition.key in self.fixed and condition.key not in self.space.when:
            value = self.fixed[condition.key]
        else:
            try:
                value = self.facts.value(self.space.overrides(chosen), condition.key)
            except KeyError:
                return False
        self.met.add(condition.key)
        return condition.holds(value)

    def refuse_unmet(self) -> None:
        if unmet := sorted(self.asked - self.met):
            raise UserError(f"sweep.when asks for {unmet[0]}, and no job has such a key or group")
