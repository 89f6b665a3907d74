"""Which settings tell runs apart, and what they are called for short."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from dltrain.compare.references import referring
from dltrain.compare.run import Run, Value
from dltrain.config.near import did_you_mean
from dltrain.effects import FACTS_OF_DATA, NO_RESULT, covers
from dltrain.errors import UserError

MAX_LISTED = 30  # names in a message
ROOT = "dataset.root"


def differing(found: Sequence[Run]) -> list[str]:
    """The keys in which runs differ: choices of groups, settings in the config's order, the seed.

    Not what changes no result (`--columns` and `--where` know it all the same), and not what
    follows from another: facts of the data where the dataset differs, the class where the
    group's choice does, the keys that only some choices of a group have, unless they were
    varied within one, and what the config sets to another key's value.
    """
    keys = {key: None for run in found for key in run.settings}
    varied = [key for key in keys if is_varied(key, found)]
    kept = [key for key in varied if not is_unshown(key) and not follows(key, varied, found)]
    alike = defaultdict(list)
    for key in kept:
        alike[tuple(identity(run, key) for run in found)].append(key)
    follow = referring(alike.values(), found)
    kept = [key for key in kept if key not in follow]
    return sorted(kept, key=lambda key: (key == "seed", "." in key))


def identity(run: Run, key: str) -> object:
    """For `==` and hash: 1 and true are two things; what a run has not is null; a folder is what
    was read from it."""
    if key == ROOT:
        return run.data
    value = run.settings.get(key)
    return (value,) if isinstance(value, bool) else value


def is_varied(key: str, found: Iterable[Run]) -> bool:
    return len({identity(run, key) for run in found}) > 1


def is_unshown(key: str) -> bool:
    """A folder is shown where other data were in it."""
    return key != ROOT and covers(NO_RESULT, key)


def follows(key: str, varied: Sequence[str], found: Sequence[Run]) -> bool:
    group, _, rest = key.partition(".")
    if not rest:
        return False
    is_fact = key == ROOT or rest.rpartition(".")[2] in FACTS_OF_DATA
    if is_fact and is_constant(key, found, causes(key)):
        return True
    if group not in varied or not is_constant(key, found, [group]):
        return False
    return rest == "_target_" or not all(key in run.settings for run in found)


def causes(key: str) -> list[str]:
    """What a fact of the data can follow from; it is a setting where it differs within these."""
    choice = ["dataset", "dataset._target_"]
    last = key.rpartition(".")[2].replace("input_shape", "image_shape")
    if key == ROOT:
        return choice
    source = f"dataset.{last}"
    if key != source:
        return [*choice, ROOT, source]
    return [*choice, ROOT, "dataset.size"] if last == "image_shape" else [*choice, ROOT]


def is_constant(key: str, found: Sequence[Run], within: Sequence[str]) -> bool:
    values = defaultdict(set)
    for run in found:
        values[tuple(identity(run, each) for each in within)].add(identity(run, key))
    return all(len(each) == 1 for each in values.values())


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """`lr` for `optimizer.lr`, where no other of the keys ends so."""
    ends = defaultdict(list)
    for key in keys:
        ends[key.rpartition(".")[2]].append(key)
    return {key: key if len(ends[e := key.rpartition(".")[2]]) > 1 else e for key in keys}


def resolve(typed: str, found: Sequence[Run], varied: Iterable[str]) -> str | None:
    """The key that `typed` names, whole or by its end; None where there is none.

    Raises UserError where it could be several, of which not just one tells the runs apart.
    """
    keys = {key: None for run in found for key in run.settings}
    if typed in keys:
        return typed
    ends = [key for key in keys if key.endswith(f".{typed}")]
    best = [key for key in ends if key in set(varied)] or ends
    if len(best) > 1:
        names = ", ".join(f"`{key}`" for key in best[:4]) + (", ..." if len(best) > 4 else "")
        raise UserError(f"`{typed}` can be {names}; write one of them")
    return best[0] if best else None


def unknown(typed: str, found: Sequence[Run], others: Iterable[str]) -> UserError:
    """What to say of a name that nothing has."""
    others = list(others)
    near = did_you_mean(typed, [*others, *{key: None for run in found for key in run.settings}])
    if near or not found:
        near = near or f"there are {listed(others)}"
        return UserError(f"no run has `{typed[:100]}`; {near}")
    return UserError(
        f"no run has `{typed[:100]}`; there are {listed([*others, *differing(found)])}, "
        "and every key of `config.yaml`"
    )


def listed(names: Sequence[str]) -> str:
    """As many as have room in a message."""
    shown = list(dict.fromkeys(name[:60] for name in names))
    more = f" and {len(shown) - MAX_LISTED} more" if len(shown) > MAX_LISTED else ""
    return ", ".join(shown[:MAX_LISTED]) + more


def show(value: Value) -> str:
    """As it is typed: `null`, `true`, `0.001`, and `0.0` where that is no whole number's `0`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.6g}"
    return f"{text}.0" if text.lstrip("-").isdigit() else text
