"""`dltrain prepare`: packs a dataset of image files into a few large ones."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from dltrain import build_packed
from dltrain.claim import Claim
from dltrain.commands import console
from dltrain.commands.checked import checked
from dltrain.commands.failures import storage_errors
from dltrain.commands.signals import SIGNALS
from dltrain.commands.train import take_allowed_targets
from dltrain.config import compose as composing
from dltrain.config.schema import PackConfig
from dltrain.errors import UserError

HELP = """\
usage: dltrain prepare dataset=NAME [key=value ...] prepare.out=DIR
                       [--config-dir DIR] [--allow-target PACKAGE]

Packs a folder of images into a few large files, which `dltrain train dataset=packed
dataset.root=DIR` reads without a cost for each file. Killed, the same command goes on.

  dltrain prepare dataset=image_folder dataset.root=photos prepare.out=packed
  dltrain prepare dataset=image_folder dataset.root=photos prepare.out=packed prepare.store=uint8

prepare.out           the folder of the packed set
prepare.store         files: as they are (default); uint8: pixels, which nobody has to decode again
prepare.side          of uint8: shorter sides that are longer are brought to it (256)
prepare.shard_mib     MiB of a file of the set at the most (2048)
prepare.num_workers   processes that read (auto: one a core)

All keys of the dataset are those of training; the splits are packed as they are then.
"""


def main(argv: list[str]) -> int:
    """Returns the exit code; raises DltrainError for what the user can mend."""
    if not argv or "-h" in argv or "--help" in argv:
        print(HELP, end="")
        return 0
    allowed, rest = take_allowed_targets(argv)
    folder, overrides = take_config_dir(rest)
    cfg = composing.compose(overrides, config_name="prepare", user_config_dir=folder)
    config = checked(composing.job_config(cfg), allowed=allowed, schema=PackConfig)
    out = Path(config["prepare"]["out"]).expanduser()
    refuse_source(config["dataset"].get("root"), out)
    with Claim(out, what="prepare.out") as claim:
        if not claim.is_new and not build_packed.is_packed_set(out) and any(out.iterdir()):
            raise UserError(
                f"prepare.out is {out}, which holds something else; choose a folder that is empty "
                "or does not exist"
            )
        with storage_errors():
            plan = build_packed.make_plan(config, allowed, console.progress())
            manifest = build_packed.finished(plan, out, console.progress())
            if manifest is not None:
                print(f"{out} is complete, and every byte is as it was written")
                return 0
            manifest = write(config, plan, claim)
    if manifest is None:
        print(f"stopped by {SIGNALS.name}; to go on:\n  dltrain prepare {shlex.join(argv)}")
        return SIGNALS.exit_code
    say(out, manifest)
    return 0


def refuse_source(source: Any, out: Path) -> None:
    """A set within the folder that it is made of would be a class of it the next time."""
    if isinstance(source, str) and out.resolve().is_relative_to(
        Path(source).expanduser().resolve()
    ):
        raise UserError(
            f"prepare.out is {out}, which lies in dataset.root; choose a folder outside of {source}"
        )


def take_config_dir(argv: list[str]) -> tuple[str | None, list[str]]:
    """The folder of --config-dir, and the overrides."""
    rest, folder = list(argv), None
    if "--config-dir" in rest:
        at = rest.index("--config-dir")
        if at + 1 == len(rest):
            raise UserError("--config-dir needs a folder that exists")
        folder = rest[at + 1]
        del rest[at : at + 2]
    if flag := next((arg for arg in rest if arg.startswith("-")), None):
        raise UserError(f"there is no flag {flag}; `dltrain prepare --help` lists what there is")
    return folder, rest


def write(config: dict[str, Any], plan: Any, claim: Claim) -> Any:
    """The manifest; None where a signal came."""
    root = claim.take()
    came: list[int] = []
    SIGNALS.call(came.append)
    return build_packed.pack(config, plan, root, console.progress(), lambda: bool(came))


def say(out: Path, manifest: Any) -> None:
    sizes = " / ".join(f"{part.num_samples:,} {name}" for name, part in manifest.splits.items())
    num_bytes = sum(size for size, _ in manifest.files.values())
    print(f"packed     {sizes}, {num_bytes / 2**20:,.1f} MiB in {len(manifest.files)} files")
    if count := manifest.num_left_out:
        print(f"           {count:,} image{'s' * (count > 1)} left out: not readable")
    print(f"look       dltrain train dataset=packed dataset.root={shlex.quote(str(out))} ...")
