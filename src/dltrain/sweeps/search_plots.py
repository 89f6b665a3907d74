"""Pictures of a search: its history, which parameters mattered, and the Pareto front."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dltrain.compare.figure import PALETTE, figure, is_fraction, label_of, save
from dltrain.compare.metrics import SPLITS, Metric
from dltrain.compare.text import cut, printable
from dltrain.sweeps.objectives import Objective
from dltrain.sweeps.search import Search, quiet

HISTORY, IMPORTANCES, PARETO = "history.png", "importances.png", "pareto.png"
MIN_TRIALS = 4  # for importances: of fewer, nothing can be said
MAX_BARS = 20
WIDE = 20  # times as large as the smallest: drawn on a log scale, a fraction aside
PALE = "#bbbbbb"  # what others are better than
SIZE = (6.4, 4.0)  # inches
# Objectives that are no metrics
NAMES = {
    "wall_time_sec": "time (s)",
    "num_parameters": "parameters",
    "samples_per_sec": "samples per second",
}


def draw_search(folder: Path, search: Search) -> list[str]:
    """Draws what there is to see; the names of the files, none where matplotlib is not there."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    done = [trial for trial in search.trials() if trial.state.name == "COMPLETE"]
    if not done:
        return []
    objectives = search.objectives
    drawn = [draw_history(folder / HISTORY, search, objectives[0])]
    if draw_importances(folder / IMPORTANCES, search):
        drawn.append(IMPORTANCES)
    if len(objectives) > 1:
        drawn.append(draw_pareto(folder / PARETO, done, search.study.best_trials, objectives))
    return drawn


def draw_history(file: Path, search: Search, objective: Objective) -> str:
    """Every trial, and the best so far; of those that were pruned the last evaluation."""
    points: dict[str, list[tuple[int, float]]] = {"COMPLETE": [], "PRUNED": []}
    for trial in search.trials():
        if trial.state.name in points and trial.values:
            points[trial.state.name].append((trial.number, trial.values[0]))
    better = max if objective.mode == "max" else min
    best: list[tuple[int, float]] = []
    for number, value in points["COMPLETE"]:
        best.append((number, better(value, best[-1][1]) if best else value))
    with figure(*SIZE) as (made, axes):
        axes.plot(*columns(points["COMPLETE"]), "o", ms=4.5, color=PALETTE[0], label="trial")
        if points["PRUNED"]:
            axes.plot(*columns(points["PRUNED"]), "x", ms=5, color=PALETTE[1], label="pruned")
        steps, values = columns(best)
        axes.step([*steps, len(search.trials()) - 1], [*values, values[-1]], where="post",
                  color=PALETTE[2], label="best so far", zorder=1.8)  # fmt: skip
        set_scale(axes, "y", objective, [y for each in points.values() for _, y in each])
        axes.set_xlabel("trial")
        axes.set_ylabel(name_of(objective) + of_several(search))
        axes.xaxis.get_major_locator().set_params(integer=True)
        made.legend(loc="outside upper center", ncols=3)
        save(made, file)
    return file.name


def draw_importances(file: Path, search: Search) -> bool:
    """By fANOVA: the share of the spread of the first objective that a parameter explains."""
    shares = importances(search)
    if len(shares) < 2:
        return False
    shown = sorted(shares.items(), key=lambda each: each[1])[-MAX_BARS:]
    with figure(SIZE[0], 1.0 + 0.35 * len(shown)) as (made, axes):
        names = [cut(printable(name), 40) for name, _ in shown]
        bars = axes.barh(names, [share for _, share in shown], color=PALETTE[0])
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.bar_label(bars, [f"{share:.0%}" for _, share in shown], padding=3, fontsize=8)
        axes.set_xlim(0, max(share for _, share in shown) * 1.12)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(
            f"share of the spread of {name_of(search.objectives[0])}{of_several(search)}"
        )
        save(made, file)
    return True


def importances(search: Search) -> dict[str, float]:
    """Nothing where there are too few trials, or all came to the same."""
    from optuna import importance

    done = [trial for trial in search.trials() if trial.state.name == "COMPLETE"]
    values = {trial.values[0] for trial in done}
    if len(done) < MIN_TRIALS or len(values) < 2:
        return {}
    try:
        with quiet():
            found: dict[str, float] = importance.get_param_importances(
                search.study,
                evaluator=importance.FanovaImportanceEvaluator(seed=0),
                target=lambda trial: trial.values[0],
            )
    except (ValueError, RuntimeError, ImportError):  # of trials that have nothing in common
        return {}
    return found


def draw_pareto(
    file: Path, done: Sequence[Any], front: Sequence[Any], objectives: Sequence[Objective]
) -> str:
    """The first two objectives; trials of the front have their numbers."""
    with figure(*SIZE) as (made, axes):
        others = [(t.values[0], t.values[1]) for t in done]
        best: dict[tuple[float, float], list[str]] = {}
        for trial in sorted(front, key=lambda each: (each.values[:2], each.number)):
            best.setdefault((trial.values[0], trial.values[1]), []).append(str(trial.number))
        axes.plot(*columns(others), "o", ms=4.5, color=PALE, label="trial")
        label = "Pareto front" + (
            f" of {len(objectives)} objectives" if len(objectives) > 2 else ""
        )
        # Above the others, and those above the grid
        axes.plot(*columns(list(best)), "o", ms=6.5, color=PALETTE[1], label=label, zorder=3)
        for point, numbers in list(best.items())[:40]:
            text = cut(", ".join(numbers), 20)
            axes.annotate(text, point, xytext=(4, 4), textcoords="offset points", size=7.5)
        for index, axis in enumerate("xy"):
            set_scale(axes, axis, objectives[index], [point[index] for point in others])
        axes.set_xlabel(name_of(objectives[0]))
        axes.set_ylabel(name_of(objectives[1]))
        made.legend(loc="outside upper center", ncols=2)
        save(made, file)
    return file.name


def columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def set_scale(axes: Any, axis: str, objective: Objective, values: Sequence[float]) -> None:
    """In % for a fraction; on a log scale what spreads over decades: a loss, a time, a size, of
    which all good ones were one line."""
    metric = metric_of(objective)
    lines = getattr(axes, f"{axis}axis")
    if metric is not None and is_fraction(metric):
        lines.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
    elif 0 < WIDE * min(values) < max(values):
        getattr(axes, f"set_{axis}scale")("log")
        lines.set_major_formatter("{x:,g}")
    else:
        lines.set_major_formatter("{x:,g}")


def metric_of(objective: Objective) -> Metric | None:
    name, _, split = objective.name.rpartition("/")
    return Metric(name, split) if name and split in SPLITS else None


def name_of(objective: Objective) -> str:
    """As the plots of `dltrain compare` have it: `validation accuracy`."""
    metric = metric_of(objective)
    return label_of(metric) if metric else printable(NAMES.get(objective.name, objective.name))


def of_several(search: Search) -> str:
    """Which one of several objectives a picture is of."""
    count = len(search.objectives)
    return f"\n(the first of {count} objectives)" if count > 1 else ""
