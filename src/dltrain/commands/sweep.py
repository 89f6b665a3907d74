"""`dltrain train -m`: every job of a sweep, by Hydra's sweeper and launcher."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from dltrain.claim import Claim
from dltrain.commands.checked import checked
from dltrain.commands.hydra_app import choices_of, hydra_files, resolve_dir, through_hydra
from dltrain.commands.job import run_job
from dltrain.commands.run import Job
from dltrain.commands.signals import SIGNALS, Signals
from dltrain.config import compose as composing
from dltrain.errors import DltrainError, UserError

MAX_CHECKED = 64  # jobs of a sweep, at 0.1 s each


def sweep(argv: list[str], overrides: list[str], allowed: list[str], config: dict[str, Any]) -> int:
    """Every job by Hydra's sweeper and launcher; its directory and its values are checked here.

    The sweep's own directory is resolved before what the sweep varies, so that jobs that vary the
    name do not scatter.
    """
    parsed = composing.parse_overrides(overrides) if well_formed(overrides, config) else []
    composing.refuse_duplicates(overrides)
    swept = [o.key_or_group for o in parsed if o.is_sweep_override()]
    fixed = [text for text, o in zip(overrides, parsed, strict=True) if not o.is_sweep_override()]
    # Before the jobs are composed: the values of a job must not reach ${hydra:...} in it
    cfg = composing.compose(fixed, **config)
    directory = resolve_dir(cfg, "hydra.sweep.dir")
    refuse_empty(overrides, parsed, config, basic="BasicSweeper" in cfg.hydra.sweeper._target_)
    for job in sample_jobs(overrides, parsed):
        checked(composing.job_config(composing.compose(job, **config)), allowed=allowed)
    with Claim(directory):  # it can be made, and written to
        pass
    failed: list[str] = []
    signals = SIGNALS

    typed = sys.argv

    def task(cfg: DictConfig) -> float | None:
        sys.argv = typed  # for run.json; Hydra has read what it was given instead
        return sweep_job(cfg, allowed, failed, signals)

    label = "${run_label:${hydra.overrides.task},[" + ",".join(swept) + "]}"
    quoted = str(directory).replace("\\", "\\\\").replace("'", "\\'")
    # .hydra/ is written by us, once the directory is known to hold no other run
    settings = [f"hydra.sweep.dir='{quoted}'", "hydra.output_subdir=null"]
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


def refuse_empty(
    overrides: list[str], parsed: list[Any], config: dict[str, Any], *, basic: bool
) -> None:
    """Hydra runs no job where there is nothing to try, and says nothing."""
    for text, override in zip(overrides, parsed, strict=True):
        kind = override.value_type.name if override.is_sweep_override() else ""
        if kind == "INTERVAL_SWEEP" and basic:
            raise UserError(f"`{text}`: an interval has no end of values; list some: key=1,2,3")
        if kind == "GLOB_CHOICE_SWEEP":
            folders = [composing.config_dir(), Path(config["user_config_dir"] or ".")]
            files = [
                path for each in folders for path in each.glob(f"{override.key_or_group}/*.y*")
            ]
            found = override.value().filter([path.stem for path in files])
        elif kind in ("CHOICE_SWEEP", "RANGE_SWEEP", "SIMPLE_CHOICE_SWEEP"):
            found = list(islice(override.sweep_iterator(), 1))
        else:
            continue
        if not found:
            raise UserError(f"`{text}` gives no value to try")


def sample_jobs(overrides: list[str], parsed: list[Any]) -> Iterator[list[str]]:
    """The first job of a sweep, then one for each other value that it tries, 64 at most.

    Not every job: a sweep can have thousands. A glob, which needs the groups, is left out.
    """
    values: list[list[str | None]] = []
    for text, override in zip(overrides, parsed, strict=True):
        if not override.is_sweep_override():
            values.append([text])
        elif override.value_type.name in ("GLOB_CHOICE_SWEEP", "INTERVAL_SWEEP"):
            values.append([None])
        else:
            key = override.get_key_element()
            values.append([f"{key}={value}" for value in override.sweep_string_iterator()])
    first = [choices[0] for choices in values if choices]
    jobs = [first]
    for index, choices in enumerate(values):
        jobs += [[*first[:index], value, *first[index + 1 :]] for value in choices[1:]]
    for job in jobs[:MAX_CHECKED]:
        yield [text for text in job if text is not None]


def sweep_job(
    cfg: DictConfig, allowed: list[str], failed: list[str], signals: Signals
) -> float | None:
    """One job, called by Hydra's launcher; its failure does not end the others."""
    full = HydraConfig.get()
    run_dir = below_here(Path(full.runtime.output_dir))
    try:
        if signals.exit_code:
            return None
        signals.on_stop = None  # that of the job before
        result = run_job(job_of_sweep(cfg, run_dir, allowed), signals)
    except Exception as error:
        failed.append(run_dir.name)
        report_failure(run_dir.name, error)
        return None
    finally:
        with suppress(OSError):
            run_dir.rmdir()  # Hydra makes it; it stays where there is something in it
    if result.exit_code not in (0, 130, 143):
        failed.append(run_dir.name)
    return result.best


def below_here(path: Path) -> Path:
    """Relative, as it was typed, where that is shorter to read: Hydra makes it absolute."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def job_of_sweep(cfg: DictConfig, run_dir: Path, allowed: list[str]) -> Job:
    full = OmegaConf.merge({"hydra": HydraConfig.get()}, cfg)
    assert isinstance(full, DictConfig)
    return Job(
        run_dir=run_dir,
        config=checked(cfg, allowed=allowed),
        choices=choices_of(full),
        hydra_files=hydra_files(full),
        named_by_us=False,
        allowed=allowed,
    )


def report_failure(name: str, error: Exception) -> None:
    """Of one job: what is expected in a few lines, a fault with its traceback; and on we go."""
    from dltrain.cli import print_error

    if not isinstance(error, DltrainError):
        traceback.print_exception(error)
    print_error(f"{name}: {error}")
