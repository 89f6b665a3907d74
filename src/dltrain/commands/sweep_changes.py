"""What may be typed when a sweep goes on, and how it is kept for the next time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dltrain.errors import UserError
from dltrain.sweeps.cluster import TYPED_ONLY

ANY_TIME = ("jobs", "on_error")  # of the `sweep` node
# Of `sweep.optuna`: how many trials, and who draws and stops them; not what is tried and compared
OF_SEARCH = ("trials", "sampler", "sampler_args", "pruner", "pruner_args")
LAUNCHER, ITS_SETTINGS = "hydra/launcher", "hydra.launcher."


def key_of(text: str) -> str:
    return text.lstrip("+").partition("=")[0]


def refuse_changes(typed: Sequence[str], sweeper: Any) -> None:
    """Raises UserError for what would be passed over, as the jobs are recorded."""
    allowed = [f"sweep.{name}" for name in ANY_TIME]
    if sweeper == "optuna":
        allowed += [f"sweep.optuna.{name}" for name in OF_SEARCH]
    for text in typed:
        key = key_of(text)
        of_launcher = key == LAUNCHER or key.startswith(ITS_SETTINGS)
        if not of_launcher and not any(f"{key}.".startswith(f"{each}.") for each in allowed):
            raise UserError(
                f"`{text}`: the jobs of a sweep are what they were when it began; how they are run "
                f"can be changed: {', '.join(allowed)}, {LAUNCHER}"
            )


def is_another(launcher: Any, typed: Sequence[str]) -> bool:
    """Whether what is typed names another launcher: the settings of that one are not for it."""
    named = [text.partition("=")[2] for text in typed if key_of(text) == LAUNCHER]
    return bool(named) and named[-1] != launcher


def changes(
    asked: Mapping[str, Any], typed: Sequence[str], *, settings: Mapping[str, Any], launcher: str
) -> dict[str, Any]:
    """Of `asked`, which is `sweep.json`, what is another with what was typed now: without it the
    next `dltrain resume` would go back to what the sweep began with.

    settings: the `sweep` node of now.
    """
    found: dict[str, Any] = {"launcher": launcher}
    stored = asked.get("settings")
    if isinstance(stored, dict):
        new = stored | {name: settings[name] for name in ANY_TIME}
        if asked.get("sweeper") == "optuna" and isinstance(stored.get("optuna"), dict):
            new["optuna"] = stored["optuna"] | {
                name: settings["optuna"][name] for name in OF_SEARCH
            }
        found["settings"] = new
    texts = [text for text in typed if key_of(text).startswith(ITS_SETTINGS)]
    gone = {key_of(text) for text in texts}
    texts = [
        text
        for text in texts  # without what a shell runs is as if there never was any
        if not (text.endswith("=null") and key_of(text).startswith(TYPED_ONLY))
    ]
    for name in ("hydra", "overrides"):
        if isinstance(asked.get(name), list):
            kept = [
                text
                for text in asked[name]
                if not is_replaced(text, gone, launcher != asked.get("launcher"))
            ]
            found[name] = [*kept, *texts]
    return {name: value for name, value in found.items() if value != asked.get(name)}


def is_replaced(text: Any, keys: set[str], is_another: bool) -> bool:
    if not isinstance(text, str):
        return False
    key = key_of(text)
    return key in keys or (is_another and (key == LAUNCHER or key.startswith(ITS_SETTINGS)))
