"""`dltrain train`: composes, checks, and hands the job on; sweeps go through Hydra."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

from dltrain.commands.checked import checked
from dltrain.commands.hydra_app import choices_of, hydra_files, resolve_dir, through_hydra
from dltrain.commands.job import run_job
from dltrain.commands.run import Job
from dltrain.commands.signals import SIGNALS
from dltrain.config import compose as composing
from dltrain.config.sweep import HARMLESS, is_of_sweep
from dltrain.errors import UserError


def main(argv: list[str]) -> int:
    """Returns the exit code; raises DltrainError for what the user can mend."""
    allowed, argv = take_allowed_targets(argv)
    dry_run, argv = take_dry_run(argv)
    args = parse(argv)
    argv = flags_first(args)
    if args.help or args.hydra_help:
        return through_hydra(argv)
    overrides = args.overrides
    config = {"config_name": args.config_name or "train", "user_config_dir": args.config_dir}
    if args.multirun:
        return sweep(argv, overrides, allowed, config, dry_run=dry_run)
    cfg = composing.compose(overrides, **config)
    refuse_unknown_package(cfg, args)
    if args.cfg or args.info or args.resolve:
        return through_hydra(argv)
    if str(OmegaConf.select(cfg, "hydra.mode")).endswith("MULTIRUN"):
        return sweep(["-m", *argv], overrides, allowed, config, dry_run=dry_run)
    refuse_sweep_keys(overrides)
    job = single_job(cfg, overrides, allowed)
    if dry_run:
        from dltrain.commands.dry_run import Planned, say_plan

        planned = Planned(0, {}, job.run_dir.name, job.config)
        return say_plan([planned], job.run_dir.parent, allowed)
    return run_job(job, SIGNALS).exit_code


def sweep(
    argv: list[str],
    overrides: list[str],
    allowed: list[str],
    config: dict[str, Any],
    *,
    dry_run: bool,
) -> int:
    """Imported where there is one: 30 ms of the half second in which a mistake is told."""
    from dltrain.commands import sweep as command

    return command.sweep(argv, overrides, allowed, config, dry_run=dry_run)


def take_allowed_targets(argv: list[str]) -> tuple[list[str], list[str]]:
    """The packages of `--allow-target PACKAGE`, and the arguments that are Hydra's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--allow-target", action="append", default=[])
    if "--allow-target" in argv[-1:]:
        raise UserError("--allow-target needs the name of a package")
    try:
        known, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UserError("--allow-target needs the name of a package") from error
    for name in known.allow_target:
        if not all(part.isidentifier() for part in name.split(".")):
            raise UserError(f"--allow-target {name!r}: it must be the name of a package or module")
    if known.allow_target and "" not in sys.path:
        sys.path.append("")  # a file in the current folder, which hides no installed package
    return known.allow_target, rest


def take_dry_run(argv: list[str]) -> tuple[bool, list[str]]:
    """Whether `--dry-run` was typed, and the arguments that are Hydra's."""
    return "--dry-run" in argv, [arg for arg in argv if arg != "--dry-run"]


def refuse_sweep_keys(overrides: list[str]) -> None:
    """What is to be swept would be passed over in silence by a single run."""
    for text in overrides:
        key = text.partition("=")[0].lstrip("+~")
        if is_of_sweep(text) and key not in HARMLESS:
            raise UserError(
                f"`{text}` is of a sweep, and this is a single run; add -m: "
                f"`dltrain train -m {shlex.join(overrides)}`"
            )


def parse(argv: list[str]) -> argparse.Namespace:
    """argv by Hydra's own parser, so that its users' habits keep working."""
    try:
        parser = get_args_parser()
    except (TypeError, ValueError) as error:  # argparse of Python 3.14 refuses Hydra's help text
        version = ".".join(map(str, sys.version_info[:2]))
        raise UserError(
            f"hydra-core {hydra.__version__} does not start on Python {version} ({error})\n"
            "use Python 3.11, 3.12 or 3.13"
        ) from None
    parser.error = refuse  # type: ignore[method-assign, assignment]
    args: argparse.Namespace = parser.parse_intermixed_args(argv)
    for override in args.overrides:
        if override.startswith("-"):
            refuse(f"unrecognized argument {override}")
    for flag, value in (("--config-dir", args.config_dir), ("--config-name", args.config_name)):
        if value is not None and not value.strip():
            raise UserError(f"{flag} is empty; leave it out, or give it a name")
    for flag, value, cure in (
        ("--config-path", args.config_path, "--config-dir DIR adds a folder of your own configs"),
        ("--experimental-rerun", args.experimental_rerun, "`dltrain resume RUN` goes on with one"),
    ):
        if value is not None:
            raise UserError(f"{flag} does not work here: {cure}")
    return args


def refuse_unknown_package(cfg: DictConfig, args: argparse.Namespace) -> None:
    if not args.cfg or args.package in (None, "_global_"):
        return
    if OmegaConf.select(cfg, args.package, throw_on_resolution_failure=False) is None:
        raise UserError(f"--package: there is nothing at `{args.package}` in the config")


def flags_first(args: argparse.Namespace) -> list[str]:
    """The arguments again: Hydra reads them once more, and no override may precede a flag."""
    flags = [
        flag
        for flag, given in (
            ("--help", args.help),
            ("--hydra-help", args.hydra_help),
            ("--resolve", args.resolve),
            ("--multirun", args.multirun),
            (f"--info={args.info}", args.info),
            (f"--cfg={args.cfg}", args.cfg),
            (f"--package={args.package}", args.package),
            (f"--config-name={args.config_name}", args.config_name),
            (f"--config-dir={args.config_dir}", args.config_dir),
        )
        if given
    ]
    return [*flags, *args.overrides]


def refuse(message: str) -> None:
    raise UserError(
        f"{message}\n`dltrain train --help` and `dltrain train --hydra-help` list the flags"
    )


def single_job(cfg: DictConfig, overrides: list[str], allowed: list[str]) -> Job:
    """The job of a composed config with its `hydra` node, checked; nothing is written yet."""
    config = checked(composing.job_config(cfg), allowed=allowed)
    run_dir = resolve_dir(cfg, "hydra.run.dir")
    explicit = any(text.startswith("hydra.run.dir=") for text in overrides)
    return Job(
        run_dir=run_dir,
        config=config,
        choices=choices_of(cfg),
        hydra_files=hydra_files(cfg),
        named_by_us=not explicit,
        allowed=allowed,
    )
