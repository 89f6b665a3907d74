"""`dltrain info`: what can be chosen, one line each, and what this machine has."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

from dltrain import cores
from dltrain.config.compose import config_dir, is_offered
from dltrain.config.menu import is_global, typed_keys
from dltrain.config.near import did_you_mean
from dltrain.errors import UserError

HELP = """\
usage: dltrain info [GROUP[=CHOICE] ...] [--config-dir DIR]

Lists what can be chosen in every config group, and says what this machine has. With GROUP, what can
be chosen there and the keys of each choice with their values (`dltrain info model`); with
GROUP=CHOICE, that one (`dltrain info model=cnn`). --config-dir adds a folder of your own configs.
"""
# Of Hydra's own: where the jobs of a sweep run, and which jobs those are
OF_HYDRA = ("hydra/launcher", "hydra/sweeper")
# A choice that has no yaml: Hydra has its own of that name, which the two would be merged with
NO_FILE = Path(os.devnull)
BASIC = "Jobs one after another in this process, whose output is seen: for a debugger"


def main(argv: list[str]) -> int:
    """Returns the exit code; raises UserError for a group that does not exist."""
    if "-h" in argv or "--help" in argv:
        print(HELP, end="")
        return 0
    folders, names = parse(argv)
    groups = read_groups(folders)
    for group, choice in [asked_for(name, groups) for name in names]:
        print_group(group, groups[group], choice, with_keys=True)
    if not names:
        for group, files in groups.items():
            print_group(group, files)
        print("machine")
        for what, text in machine():
            print_choice(what, text)
    return 0


def parse(argv: list[str]) -> tuple[list[Path], list[str]]:
    folders, names = [config_dir()], list(argv)
    if "--config-dir" in names:
        at = names.index("--config-dir")
        if at + 1 == len(names) or not Path(names[at + 1]).is_dir():
            raise UserError("--config-dir needs a folder that exists")
        folders.append(Path(names[at + 1]))
        del names[at : at + 2]
    return folders, names


def read_groups(folders: list[Path]) -> dict[str, dict[str, Path]]:
    """group -> choice -> its yaml; in train.yaml's order."""
    groups: dict[str, dict[str, Path]] = {}
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")):
            group = file.parent.relative_to(folder).as_posix()
            if not file.is_file():  # a pipe, whose reader would wait without end
                continue
            is_ours = group.split("/")[0] != "hydra" or group in OF_HYDRA
            if group != "." and is_ours and is_offered(group, file.stem):
                groups.setdefault(group, {})[file.stem] = file
    groups["hydra/launcher"]["basic"] = NO_FILE
    order = (config_dir() / "train.yaml").read_text(encoding="utf-8")
    return dict(sorted(groups.items(), key=lambda item: order.find(f"- {item[0]}:") % 10**6))


def asked_for(name: str, groups: dict[str, dict[str, Path]]) -> tuple[str, str]:
    """The group and the choice (`model=cnn`), which is empty where all are asked for (`model`)."""
    group, equals, choice = name.partition("=")
    if group not in groups:
        near = did_you_mean(group, groups) or f"one of {', '.join(groups)}"
        raise UserError(f"there is no config group `{group}`; {near}")
    if equals and choice not in groups[group]:
        near = did_you_mean(choice, groups[group]) or f"one of {', '.join(groups[group])}"
        raise UserError(f"there is no `{name}`; {near}")
    return group, choice


def print_group(
    group: str, files: dict[str, Path], only: str = "", *, with_keys: bool = False
) -> None:
    """Every choice, or `only` one, and its keys, but those of an experiment unless it is asked for:
    they are many."""
    print(group)
    column = max(14, *map(len, files))
    for choice in [only] if only else files:
        print_choice(choice, first_comment(files[choice]) or BASIC * (choice == "basic"), column)
        if with_keys and (only or not is_global(files[choice])):
            print_keys(group, choice, files, column)


def print_keys(group: str, choice: str, files: dict[str, Path], column: int) -> None:
    try:
        keys = typed_keys(group, choice, files)
    except (OSError, ValueError) as error:
        keys = [f"({error})"]
    words = [
        f'"{key}"' if "'" in key else f"'{key}'" if set(" {") & set(key) else key for key in keys
    ]
    for line in wrapped("\n".join(words).replace(" ", "\xa0"), " " * (column + 3)):
        print(line.replace("\xa0", " "))  # what is quoted is not broken


def first_comment(file: Path) -> str:
    """The first comment of a yaml that is not one of Hydra's (`# @package`)."""
    with open(file, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("#") and not line.startswith("# @"):
                return line.lstrip("# ").strip()
            if line.strip() and not line.startswith("#"):
                break
    return ""


def print_choice(name: str, text: str, column: int = 14) -> None:
    first = f"  {name:<{column}} "
    print("\n".join(wrapped(text, first)) or first.rstrip())


def wrapped(text: str, first: str) -> list[str]:
    """Lines as wide as the terminal, below one another after `first`."""
    width = max(40, shutil.get_terminal_size((100, 24)).columns)
    column = min(len(first), width // 2)  # a narrow terminal wraps into its own second half
    first = first if first.strip() else " " * column
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * column,
        break_on_hyphens=False,
    )


# ---------------------------------------------------------------------- the machine


def machine() -> Iterator[tuple[str, str]]:
    """Versions, devices, and what does not work here with its cure. Imports torch."""
    yield "python", f"{platform.python_version()} on {platform.platform(terse=True)}"
    for package in ("dltrain", "hydra-core", "tensorboard"):
        yield package, version(package)
    yield "cpu", f"{cores.given()} cores"
    if importlib.util.find_spec("torch") is None:
        yield "torch", "not installed: pip install torch torchvision"
        return
    import torch

    yield "torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'not built in'}"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if not torch.cuda.device_count():
        yield "cuda", "no device: training runs on the CPU"
    yield "torchvision", torchvision_state()


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def torchvision_state() -> str:
    """Its version, or what to do: a torchvision that does not match torch fails while importing."""
    try:
        import torchvision
    except ImportError:
        return "not installed: pip install torch torchvision (needed by model=torchvision only)"
    except Exception as error:  # `operator torchvision::nms does not exist`, and others like it
        reason = str(error).splitlines()[0]
        return (
            f"does not import ({reason}): it does not match this torch; install the pair "
            "together: pip install --upgrade torch torchvision"
        )
    return str(torchvision.__version__)
