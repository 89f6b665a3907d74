"""Which settings tell runs apart, and what they are called for short."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from dltrain.compare.run import Run, Value
from dltrain.config.near import did_you_mean
from dltrain.effects import FACTS_OF_DATA, NO_RESULT, covers
from dltrain.errors import UserError

MAX_LISTED = 30  # names in a message


def differing(found: Sequence[Run]) -> list[str]:
    """The keys in which runs differ: choices of groups, settings in the config's order, the seed.

    Not what changes no result (`--columns` and `--where` know it all the same), and not what
    follows from another: facts of the data where the dataset differs, the class where the
    group's choice does, and the keys that only some choices of a group have, unless they were
    varied within one.
    """
    keys = {key: None for run in found for key in run.settings}
    varied = [key for key in keys if is_varied(key, found)]
    kept = [key for key in varied if not covers(NO_RESULT, key) and not follows(key, varied, found)]
    return sorted(kept, key=lambda key: (key == "seed", "." in key))


def identity(run: Run, key: str) -> object:
    """For `==` and hash: 1 and true are two things; what a run has not is null."""
    value = run.settings.get(key)
    return (value,) if isinstance(value, bool) else value


def is_varied(key: str, found: Iterable[Run]) -> bool:
    return len({identity(run, key) for run in found}) > 1


def follows(key: str, varied: Sequence[str], found: Sequence[Run]) -> bool:
    group, _, rest = key.partition(".")
    if not rest:
        return False
    if rest.rpartition(".")[2] in FACTS_OF_DATA and ("dataset" in varied or group == "dataset"):
        return True
    if group not in varied:
        return False
    by_choice = defaultdict(set)
    for run in found:
        by_choice[run.settings.get(group)].add(identity(run, key))
    constant = all(len(values) == 1 for values in by_choice.values())
    everywhere = all(key in run.settings for run in found)
    return constant and (rest == "_target_" or not everywhere)


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
    """As it is typed: `null`, `true`, `0.001`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
