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

from dltrain.config.compose import config_dir
from dltrain.config.near import did_you_mean
from dltrain.errors import UserError

HELP = """\
usage: dltrain info [GROUP] [--config-dir DIR]

Lists what can be chosen in every config group, or in GROUP (`dltrain info model`), and says what
this machine has. --config-dir adds a folder of your own configs.
"""
HIDDEN_GROUPS = ("hydra",)


def main(argv: list[str]) -> int:
    """Returns the exit code; raises UserError for a group that does not exist."""
    if "-h" in argv or "--help" in argv:
        print(HELP, end="")
        return 0
    folders, names = parse(argv)
    groups = read_groups(folders)
    for name in names:
        if name not in groups:
            near = did_you_mean(name, groups)
            raise UserError(
                f"there is no config group `{name}`; {near or 'one of ' + ', '.join(groups)}"
            )
    for name in names or groups:
        print(f"{name}")
        width = max(map(len, groups[name]))
        for choice, text in groups[name].items():
            print_choice(choice, text, max(14, width))
    if not names:
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


def read_groups(folders: list[Path]) -> dict[str, dict[str, str]]:
    """group -> choice -> the first comment of its yaml; in train.yaml's order."""
    groups: dict[str, dict[str, str]] = {}
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")):
            group = file.parent.relative_to(folder).as_posix()
            if not file.is_file():  # a pipe, whose reader would wait without end
                continue
            if group != "." and group.split("/")[0] not in HIDDEN_GROUPS:
                groups.setdefault(group, {})[file.stem] = first_comment(file)
    order = (config_dir() / "train.yaml").read_text(encoding="utf-8")
    return dict(sorted(groups.items(), key=lambda item: order.find(f"- {item[0]}:") % 10**6))


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
    width = max(40, shutil.get_terminal_size((100, 24)).columns)
    first = f"  {name:<{column}} "
    column = min(len(first), width // 2)  # a narrow terminal wraps into its own second half
    print(
        textwrap.fill(text, width, initial_indent=first, subsequent_indent=" " * column)
        or first.rstrip()
    )


# ---------------------------------------------------------------------- the machine


def machine() -> Iterator[tuple[str, str]]:
    """Versions, devices, and what does not work here with its cure. Imports torch."""
    yield "python", f"{platform.python_version()} on {platform.platform(terse=True)}"
    for package in ("dltrain", "hydra-core", "tensorboard"):
        yield package, version(package)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "cpu", f"{cores} cores"
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
