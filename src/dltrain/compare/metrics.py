"""What came out of a run, under the names that are typed: `accuracy/val@500`, `best`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dltrain.compare.curves import SPLITS, Curve, read_curves
from dltrain.compare.run import Run
from dltrain.compare.settings import unknown
from dltrain.errors import UserError

KINDS = ("best", "last", "min", "max")
PATTERN = re.compile(r"([^\s@:/]+)(?:/(\w+))?(?::(\w+))?(?:@([0-9]{1,15}))?")


@dataclass(frozen=True)
class Metric:
    """`kind`: the value at the `best` evaluation by checkpoint.monitor, the `last`, the `min` or
    `max` of all rows, or the newest one `at` a step."""

    name: str
    split: str
    kind: str = "last"
    step: int = 0
    typed: str = field(default="", compare=False)  # where that was a name without its split

    @property
    def key(self) -> str:
        return f"{self.name}/{self.split}"

    @property
    def title(self) -> str:
        """As it is typed, and as CSV and JSON have it."""
        if self.kind == "at":
            return f"{self.key}@{self.step}"
        return (
            self.key if self.split == "test" and self.kind == "last" else f"{self.key}:{self.kind}"
        )

    def needs_curves(self, found: Sequence[Run]) -> bool:
        if self.kind == "last":
            return not any(self.key in run.last for run in found)
        return self.kind != "best"

    def value(self, run: Run, curves: dict[tuple[str, str], Curve]) -> float | None:
        if self.kind == "best":
            return run.best[1] if run.best and run.best[0] == self.key else None
        curve = curves.get((self.name, self.split))
        if self.kind == "last" and (curve is None or self.key in run.last):
            return run.last.get(self.key)
        if curve is None or not curve.values:
            return None
        if self.kind == "at":
            return curve.at(self.step)
        return (
            curve.values[-1]
            if self.kind == "last"
            else {"min": min, "max": max}[self.kind](curve.values)
        )


def parse(text: str, at: int | None = None, found: Sequence[Run] = ()) -> Metric | None:
    """None where it is no metric. `at` holds where the text does not say which value is meant; a
    metric of no split is one of what `found` has. Raises UserError for one that is half right."""
    match = PATTERN.fullmatch(text)
    if not match:
        return None
    name, split, kind, step = match.groups()
    if split and split not in SPLITS:
        raise UserError(f"`{text}`: a metric's split is one of {', '.join(SPLITS)}")
    if kind and (kind not in KINDS or step):
        raise UserError(f"`{text}`: write one of :{', :'.join(KINDS)} or @STEP behind a metric")
    typed = "" if split else name
    split = split or split_of(name, found)
    if step or (at is not None and not kind and split != "test"):
        return Metric(name, split, "at", int(step or at or 0), typed)
    return Metric(name, split, kind or "last", typed=typed)


def split_of(name: str, found: Sequence[Run]) -> str:
    """Validation where there is one, or the only one that runs have of the metric."""
    has = [split for split in SPLITS if any(f"{name}/{split}" in run.last for run in found)]
    if len(has) > 1 and "val" not in has:
        names = ", ".join(f"`{name}/{split}`" for split in has)
        raise UserError(f"`{name}` can be {names}; write one of them")
    return "val" if "val" in has else (has or ["train"])[0]


def is_known(text: str, found: Sequence[Run]) -> bool:
    """Whether it is the name of a metric of these runs, with a split or without."""
    name = re.split("[/:@]", text)[0]
    return "/" in text or any(key.rpartition("/")[0] == name for run in found for key in run.last)


def monitored(found: Sequence[Run], at: int | None = None) -> list[Metric]:
    """The best of what is monitored (by step `at`, its value there), for each that is."""
    names = dict.fromkeys(run.best[0].rpartition("/")[::2] for run in found if run.best)
    kind = "best" if at is None else "at"
    return [Metric(name, split, kind, at or 0) for name, split in names if name and split in SPLITS]


def tested(found: Sequence[Run]) -> list[Metric]:
    """What is monitored, on the test data, where a run has that."""
    tests = dict.fromkeys(Metric(metric.name, "test") for metric in monitored(found))
    return [test for test in tests if any(test.key in run.last for run in found)]


def default_metrics(found: Sequence[Run], at: int | None = None) -> list[Metric]:
    """The best of what is monitored, and the same of the test data; where no run has come that far,
    the last losses."""
    metrics = monitored(found, at)
    metrics += tested(found)
    keys = ("loss/val", "loss/train")
    return metrics or [
        Metric("loss", key.rpartition("/")[2])
        for key in keys
        if any(key in run.last for run in found)
    ]


def check(metrics: Iterable[Metric], found: Sequence[Run], curves: Curves) -> None:
    """Raises UserError for a metric that no run has."""
    for metric in metrics:
        if not any(curves.value(metric, run) is not None for run in found):
            known = sorted({key for run in found for key in run.last})
            if metric.kind == "best" and any(metric.key in run.last for run in found):
                raise UserError(
                    f"no run monitors {metric.key}; write {metric.key}:min or {metric.key}:max"
                )
            if metric.typed:  # as it was: nobody has said which split
                known = list(dict.fromkeys(key.rpartition("/")[0] for key in known))
            if (metric.typed or metric.key) not in known and not curves.has(metric):
                raise unknown(metric.typed or metric.key, (), known)


class Curves:
    """The rows of runs, read once, for the metrics that need them."""

    def __init__(self, metrics: Iterable[Metric], found: Sequence[Run]) -> None:
        wanted = {(m.name, m.split) for m in metrics if m.needs_curves(found)}
        self.notes: list[str] = []
        self.by_run: dict[int, dict[tuple[str, str], Curve]] = {}
        for run in found if wanted else ():
            try:
                self.by_run[id(run)] = read_curves(run.path, wanted)
            except UserError as error:
                self.notes.append(str(error))

    def value(self, metric: Metric, run: Run) -> float | None:
        return metric.value(run, self.by_run.get(id(run), {}))

    def has(self, metric: Metric) -> bool:
        names = (curves.get((metric.name, metric.split)) for curves in self.by_run.values())
        return any(curve is not None and bool(curve.values) for curve in names)
