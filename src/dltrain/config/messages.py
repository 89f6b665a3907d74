"""What Hydra and OmegaConf found, said again so that the user knows what to type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from yaml import YAMLError

from dltrain.config.near import did_you_mean, known_elsewhere
from dltrain.config.sweep_messages import (
    WITHIN_BRACKETS,
    sweep_in_brackets,
    unknown_hydra_key,
    wrong_function,
)

MAX_LINES, MAX_WIDTH = 6, 300
# Groups that take keys of any name; what has no place in the others, a + does not add either
OPEN = (
    "dataset", "augmentation", "model", "task", "optimizer", "scheduler", "callbacks", "loggers",
)  # fmt: skip


class Choices(Protocol):
    def keys(self, overrides: Sequence[str] = ()) -> list[str]: ...
    def groups(self) -> list[str]: ...
    def options(self, group: str) -> list[str]: ...
    def of_hydra(self, overrides: Sequence[str]) -> tuple[list[str], str]: ...


def explain_file_error(error: Exception) -> str | None:
    """What is wrong with a file whatever it says; None where it is something else."""
    if isinstance(error, YAMLError):
        return first_lines("a config file is not valid yaml: " + str(error))
    if isinstance(error, UnicodeDecodeError):
        return f"a config file is not UTF-8 text: {error.reason} at byte {error.start}"
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return "the current folder does not exist any more: cd into another"
    if isinstance(error, RecursionError):
        return "the configs include each other without end: look for a `defaults` that names itself"
    return None


def explain_compose_error(error: Exception, overrides: Sequence[str], choices: Choices) -> str:
    """One to six lines for an error that was raised while composing `overrides`."""
    if isinstance(error, OverrideParseException):
        return unparsable(error)
    if isinstance(error, MissingConfigException):
        return missing_config(error, choices)
    if of_file := explain_file_error(error):
        return of_file
    text = str(error)
    if "\nCannot merge " in f"\n{text}":
        return in_file(text) + "a list stands where keys and values belong, or the other way round"
    if text.startswith("Config group override must be"):
        return group_without_choice(overrides, choices)
    if match := re.match(r"You must specify '(.+?)'", text):
        listed = ", ".join(choices.options(match[1]))
        return f"{match[1]} is missing: give it as `{match[1]}=...`\n" + shorten(f"one of {listed}")
    if match := re.search(r"The value of '(.+?)' is (.*) and not (.*)\.$", text):
        return f"`~{match[1]}={match[3]}` takes away nothing: {match[1]} is {match[2]}"
    if match := re.search(
        r"(?:Could not (?:override|delete(?: from config)?)\.? ?'?|"
        r"Unable to find or override ')(?P<key>[\w./@-]+)",
        text,
    ):
        return in_file(text) + unknown_key(match["key"], overrides, choices)
    if match := re.search(r"^\s*Key '(.+?)' not in '(\w+)'(?:.|\n)*full_key: (\S+)", text, re.M):
        return in_file(text) + unknown_key(match[3], overrides, choices)
    if match := re.search(r"Merge error: (.+) is not a subclass of \w+", text):
        return in_file(text) + f"{match[1]} where a group of keys belongs, such as trainer"
    unread = re.search(r"HydraConfig was not set\s+full_key: (\S+)", str(error.__cause__))
    if unread:  # the value that is to be taken away is made of others
        return f"{unread[1]} is missing: give it as `{unread[1]}=...`"
    if "type annotation: Set[str]" in str(error.__cause__ or error):
        return sweep_in_brackets(overrides)
    if not text.strip():
        return (
            f"a config file holds what no config can ({type(error).__name__}): is every key text?"
        )
    if match := re.search(
        r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'(?:\n| req)", text
    ):
        return f"`{match[1]}` gives several values: add -m to sweep over them, or write key=[a,b]"
    if match := re.search(r"Multiple values for (\S+?)\.|An item is already at '(.+?)'", text):
        key = match[1] or match[2]
        return f"`{key}` is there already: write `{key}=...` without the +"
    return first_lines(in_file(text) + type_error(error))


def in_file(text: str) -> str:
    """`experiment/mine.yaml: `, where Hydra says that the fault is not in what was typed."""
    match = re.match(r"In '(.+?)': ", text)
    ours = match is None or match[1] == "train" or match[1].startswith("hydra/")
    return f"{match[1]}.yaml: " if match and not ours else ""


def group_without_choice(overrides: Sequence[str], choices: Choices) -> str:
    """`model=null`, `model=3`: which one it was, for Hydra does not say."""
    for text in overrides:
        group, _, value = text.partition("=")
        if group in choices.groups() and re.fullmatch(r"null|true|false|[-+.\d].*", value, re.I):
            listed = shorten(", ".join(choices.options(group)))
            return f"`{text}`: a config group needs the name of a choice\none of {listed}"
    return "a config group needs the name of a choice, such as model=mlp"


def unparsable(error: OverrideParseException) -> str:
    lines = [
        line for line in str(error).splitlines() if not line.startswith(("Error pars", "See "))
    ]
    reason = re.sub(r"^\w+Exception: ", "", lines[0] if lines else "")
    if reason.strip() == (error.override or "").strip():
        reason = "it is not of the form key=value"
    cure = "write key=value; quote values with special characters: 'key=\"a b\"'"
    if (error.override or "").startswith("sweep."):
        cure = WITHIN_BRACKETS
    cure = wrong_function(error.override or "", reason) or cure
    reason = in_plain_words(reason)
    return shorten(f"cannot read the override `{error.override}`: {reason}") + f"\n{cure}"


def in_plain_words(reason: str) -> str:
    """What a grammar expects there, by the names of its tokens, helps nobody."""
    if reason.startswith("missing EQUAL"):
        return "it has no `=`"
    if match := re.match(r"(?:extraneous|mismatched) input '(.*?)' expecting", reason):
        return "it ends too early" if match[1] == "<EOF>" else f"`{match[1]}` has no place there"
    if match := re.match(r"missing (\w+) at '(.*?)'|no viable alternative at input '(.*)'", reason):
        return "a bracket or a quote is not closed"
    if match := re.match(r"\w+ while evaluating '.*': Unknown function '(\w+)'", reason):
        return f"there is no function `{match[1]}`"
    return reason


def missing_config(error: MissingConfigException, choices: Choices) -> str:
    missing = error.missing_cfg_file or "?"
    group, _, name = missing.rpartition("/")
    if not group:
        return f"there is no config `{missing}` to start from (--config-name, --config-dir)"
    options = choices.options(group) or error.options
    if not options:
        return f"there is no config `{missing}` (--config-name, --config-dir)"
    lines = [f"{in_file(str(error))}there is no `{group}={name}`"]
    if near := did_you_mean(name, options):
        lines[0] += f"; {near}"
    lines.append(shorten(f"choices of {group}: {', '.join(options)}"))
    if not group.startswith("hydra"):
        lines.append(f"`dltrain info {group}` says what each is")
    return "\n".join(lines)


def unknown_key(key: str, overrides: Sequence[str], choices: Choices) -> str:
    bare = key.partition("@")[0]
    if bare.startswith("hydra."):
        return unknown_hydra_key(bare, *choices.of_hydra(overrides))
    groups = choices.groups()
    group_overrides = [text for text in overrides if text.partition("=")[0] in groups]
    known = [*groups, *choices.keys(group_overrides)]
    if key in known:
        return (
            f"`{key}` cannot be taken away or replaced whole\n"
            "set it (to null, where it may be), or what is in it"
        )
    top_level = [name for name in known if "." not in name]
    near = (
        known_elsewhere(bare)
        or did_you_mean(bare, top_level if "." not in bare else known)
        or did_you_mean(bare, known)
    )
    cure = f"; `+{key}=...` adds a key to it" if bare.split(".")[0] in OPEN else ""
    return f"there is no config key `{key}`{'; ' + near if near else ''}\n" + (
        f"`dltrain train --cfg job` prints the config{cure if '.' in bare else ''}"
    )


def type_error(error: Exception) -> str:
    """A value of the wrong type, as `trainer.max_steps is '1.5', which is not a whole number`."""
    text = str(error.__cause__ or error)
    key = re.search(r"full_key: (\S+)", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.endswith("raised while composing config:")]
    reason = lines[0] if lines else "unknown error"
    reason = re.sub(
        r"^Value '(.*)' of type '\w+' could not be converted to (\w+)$",
        lambda m: f"is {m[1]!r}, which is not {TYPES.get(m[2], m[2])}",
        reason,
    )
    reason = re.sub(
        r"^Value '(.*)' is not a valid bool.*$", r"is '\1', which is not true or false", reason
    )
    reason = re.sub(
        r"^Cannot convert '\w+' to string: '(.*)'$", r"is \1, which is not text", reason
    )
    reason = re.sub(
        r"^Cannot merge (?:DictConfig with ListConfig|ListConfig with DictConfig)$",
        "is a list where keys belong, {a:b}, or keys where a list belongs, [a,b]",
        reason,
    )
    reason = re.sub(r"^field '.*' is not Optional$", "is null, and it must have a value", reason)
    if key is None:
        return str(error)
    return f"{key[1]} {reason}" if reason.startswith("is ") else f"{key[1]}: {reason}"


TYPES = {
    "Integer": "a whole number",
    "Float": "a number",
    "Boolean": "true or false",
    "String": "text",
}


def first_lines(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(shorten(line) for line in lines[:MAX_LINES])


def shorten(line: str, width: int = MAX_WIDTH) -> str:
    return line if len(line) <= width else line[: width - 3] + "..."


def explain_resolution_error(error: Exception, cfg: DictConfig | None = None) -> str:
    """An interpolation that cannot be resolved: the key that holds it, and why."""
    if isinstance(error, RecursionError):
        return "the config refers to itself without end: look for two keys that name each other"
    key = getattr(error, "full_key", None) or "a key"
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    reason = re.sub(r"\w+ (?:raised )?while resolving interpolation: ", "", reason.strip())
    reason = re.sub(r"of type '\w+' could not be converted to (\w+)", wrong_type, reason)
    if match := re.search(r"Interpolation key '(.+?)' not found", reason):
        near = did_you_mean(match[1], dotted(cfg)) if cfg is not None else ""
        reason = f"there is no key `{match[1]}`" + (f"; {near}" if near else "")
    if match := re.search(r"Unsupported interpolation type (\S+)", reason):
        reason = f"there is no resolver `{match[1]}`; there are oc.env, oc.decode, now and hydra"
    if "Recursive interpolation" in reason:
        reason = "Recursive interpolation: it names itself, or another that names it"
    if match := re.search(r"Missing mandatory value: (\S+)", reason):
        reason = f"{match[1]} is missing: give it as `{match[1]}=...`"
    if match := re.search(r"Environment variable '(.+?)' not found", reason):
        reason = f"the environment has no {match[1]}; ${{oc.env:{match[1]},DEFAULT}} has a default"
    return shorten(f"{key} cannot be resolved: {reason}")


def wrong_type(match: re.Match[str]) -> str:
    return f"is not {TYPES.get(match[1], match[1])}"


def dotted(node: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a config, its interpolations left alone."""
    if not isinstance(node, DictConfig) or node._is_none() or node._is_interpolation():
        return []
    found = []
    for key in node:
        child = node._get_node(key)
        found += [f"{prefix}{key!s}", *dotted(child, f"{prefix}{key!s}.")]
    return found
