"""`dltrain train`: composes, checks, and hands the job on; sweeps go through Hydra."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from dltrain.commands.job import run_job
from dltrain.commands.run import Job
from dltrain.commands.signals import Signals
from dltrain.config import compose as composing
from dltrain.config.check import check
from dltrain.errors import DltrainError, UserError


def main(argv: list[str]) -> int:
    """Returns the exit code; raises DltrainError for what the user can mend."""
    signals = Signals()
    allowed, argv = take_allowed_targets(argv)
    args = parse(argv)
    if args.help or args.hydra_help:
        return through_hydra(argv)
    overrides = args.overrides
    config = {"config_name": args.config_name or "train", "user_config_dir": args.config_dir}
    if args.multirun:
        return sweep(argv, overrides, allowed, config)
    cfg = composing.compose(overrides, **config)
    if args.cfg or args.info or args.resolve:
        return through_hydra(argv)
    if str(OmegaConf.select(cfg, "hydra.mode")).endswith("MULTIRUN"):
        return sweep(["-m", *argv], overrides, allowed, config)
    job = single_job(cfg, overrides, allowed)
    return run_job(job, signals).exit_code


def take_allowed_targets(argv: list[str]) -> tuple[list[str], list[str]]:
    """The packages of `--allow-target PACKAGE`, and the arguments that are Hydra's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--allow-target", action="append", default=[])
    if "--allow-target" in argv[-1:]:
        raise UserError("--allow-target needs the name of a package")
    known, rest = parser.parse_known_args(argv)
    if known.allow_target and "" not in sys.path:
        sys.path.insert(0, "")  # a file in the current folder, as `python -m` would find it
    return known.allow_target, rest


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
    return args


def refuse(message: str) -> None:
    raise UserError(
        f"{message}\n`dltrain train --help` and `dltrain train --hydra-help` list the flags"
    )


def through_hydra(
    argv: list[str],
    task: Callable[[DictConfig], Any] = lambda cfg: None,
    program: str = "dltrain train",
) -> int:
    """What Hydra does itself: --help, --cfg, --info, --hydra-help, completion, and sweeps."""
    composing.register()
    saved, sys.argv = sys.argv, [program, *argv]
    try:
        decorated = hydra.main(
            version_base=composing.VERSION_BASE,
            config_path=str(composing.config_dir()),
            config_name="train",
        )(task)
        decorated()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    finally:
        sys.argv = saved
    return 0


# ---------------------------------------------------------------------- one run


def single_job(cfg: DictConfig, overrides: list[str], allowed: list[str]) -> Job:
    """The job of a composed config with its `hydra` node, checked; nothing is written yet."""
    config = check(composing.job_config(cfg), allowed=allowed)
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


def resolve_dir(cfg: DictConfig, key: str) -> Path:
    from omegaconf.errors import OmegaConfBaseException

    try:
        return Path(str(OmegaConf.select(cfg, key, throw_on_missing=True)))
    except OmegaConfBaseException as error:
        from dltrain.config.messages import explain_resolution_error

        raise UserError(explain_resolution_error(error)) from None


def choices_of(cfg: DictConfig) -> dict[str, Any]:
    """Which config was chosen in each of our groups: `{"model": "mlp", ...}`."""
    choices = OmegaConf.to_container(cfg.hydra.runtime.choices)
    assert isinstance(choices, dict)
    return {str(k): v for k, v in choices.items() if "hydra" not in str(k) and v is not None}


def hydra_files(cfg: DictConfig) -> dict[str, str]:
    """Hydra's own record of a job, as Hydra itself would write it into `.hydra/`."""
    only_hydra = OmegaConf.masked_copy(cfg, "hydra")
    return {
        "config.yaml": OmegaConf.to_yaml(composing.job_config(cfg)),
        "overrides.yaml": OmegaConf.to_yaml(cfg.hydra.overrides.task),
        "hydra.yaml": OmegaConf.to_yaml(only_hydra),
    }


# ---------------------------------------------------------------------- a sweep


def sweep(argv: list[str], overrides: list[str], allowed: list[str], config: dict[str, Any]) -> int:
    """Every job by Hydra's sweeper and launcher; its directory and its first job are checked here.

    The sweep's own directory is resolved before what the sweep varies, so that jobs that vary the
    name do not scatter.
    """
    parsed = composing.parse_overrides(overrides) if well_formed(overrides, config) else []
    swept = [o.key_or_group for o in parsed if o.is_sweep_override()]
    fixed = [text for text, o in zip(overrides, parsed, strict=True) if not o.is_sweep_override()]
    cfg = composing.compose(fixed, **config)
    check(
        composing.job_config(composing.compose(first_job(overrides, parsed), **config)),
        allowed=allowed,
    )
    failed: list[str] = []
    signals = Signals()

    def task(cfg: DictConfig) -> float | None:
        return sweep_job(cfg, allowed, failed, signals)

    directory = resolve_dir(cfg, "hydra.sweep.dir")
    label = "${run_label:${hydra.overrides.task},[" + ",".join(swept) + "]}"
    settings = [f"hydra.sweep.dir='{directory}'"]
    if not any(text.startswith("hydra.sweep.subdir=") for text in overrides):
        settings.append("hydra.sweep.subdir='${hydra.job.num}" + label + "'")
    rest = [arg for arg in argv if not arg.startswith("hydra.sweep.dir=")]
    code = through_hydra([*rest, *settings], task)
    print(f"\n{directory}: {len(failed)} failed" if failed else f"\nsweep: {directory}")
    return signals.exit_code or (1 if failed else code)


def well_formed(overrides: list[str], config: dict[str, Any]) -> bool:
    """True; a malformed override raises the UserError that composing it would."""
    try:
        composing.parse_overrides(overrides)
    except Exception:
        composing.compose(overrides, **config)
    return True


def first_job(overrides: list[str], parsed: list[Any]) -> list[str]:
    """The overrides of the first job of a sweep; a glob, which needs the groups, is left out."""
    first = []
    for text, override in zip(overrides, parsed, strict=True):
        if not override.is_sweep_override():
            first.append(text)
        elif override.value_type.name != "GLOB_CHOICE_SWEEP":
            value = next(iter(override.sweep_string_iterator()), None)
            first += [] if value is None else [f"{override.get_key_element()}={value}"]
    return first


def sweep_job(
    cfg: DictConfig, allowed: list[str], failed: list[str], signals: Signals
) -> float | None:
    """One job, called by Hydra's launcher; its failure does not end the others."""
    full = HydraConfig.get()
    run_dir = Path(full.runtime.output_dir)
    if signals.exit_code:
        return None
    try:
        job = Job(
            run_dir=run_dir,
            config=check(cfg, allowed=allowed),
            choices={
                str(k): v for k, v in full.runtime.choices.items() if "hydra" not in str(k) and v
            },
            hydra_files={},
            named_by_us=False,
            allowed=allowed,
        )
        result = run_job(job, signals)
    except DltrainError as error:
        from dltrain.cli import print_error

        failed.append(run_dir.name)
        print_error(f"{run_dir.name}: {error}")
        return None
    if result.exit_code not in (0, 130, 143):
        failed.append(run_dir.name)
    return result.best
