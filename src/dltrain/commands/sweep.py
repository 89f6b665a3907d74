"""`dltrain train -m`: every job of a sweep, by Hydra's sweeper and launcher."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dltrain import runs
from dltrain.claim import Claim
from dltrain.commands.hydra_app import resolve_dir, through_hydra
from dltrain.commands.signals import SIGNALS
from dltrain.commands.sweep_asked import asked_of
from dltrain.commands.sweep_changes import (
    ITS_SETTINGS,
    changes,
    is_another,
    key_of,
    refuse_changes,
)
from dltrain.commands.sweep_end import say_end
from dltrain.commands.sweep_list import list_jobs
from dltrain.commands.sweep_local import warm_pool
from dltrain.commands.sweep_task import SweepTask
from dltrain.config import compose as composing
from dltrain.config.grammar import write
from dltrain.config.messages import shorten
from dltrain.config.sweep import check_sweep
from dltrain.errors import UserError
from dltrain.sweeps.cluster import TYPED_ONLY
from dltrain.sweeps.ledger import Ledger, is_sweep, read_ledger, refuse_foreign_runs
from dltrain.sweeps.warm import WARM

# Sweepers that decide while they go on; of all others the jobs are recorded
DECIDING = ("halving", "optuna")
# Those that check what a ledger holds: no other is taken from a file
LAUNCHERS = ("local", "basic", "stacked", "submitit_slurm", "submitit_local", "ray")
# Of the `sweep` node, what says how jobs are run; what they are has been recorded
KEPT_SETTINGS = ("jobs", "on_error", "halving", "optuna")


def sweep(
    argv: list[str],
    overrides: list[str],
    allowed: list[str],
    config: dict[str, Any],
    *,
    dry_run: bool = False,
) -> int:
    """Every job by Hydra's sweeper and launcher; its directory and its values are checked here.

    The sweep's own directory is resolved before what the sweep varies, so that jobs that vary the
    name do not scatter.
    """
    parsed = composing.parse_overrides(overrides) if well_formed(overrides, config) else []
    composing.refuse_duplicates(overrides)
    pairs = list(zip(overrides, parsed, strict=True))
    # Before the jobs are composed: the values of a job must not reach ${hydra:...} in it
    cfg = composing.compose(of_all_jobs(pairs), **config)
    directory = resolve_dir(cfg, "hydra.sweep.dir")
    asked = asked_of(sys.argv, overrides, allowed, cfg)
    refuse_hydra_keys(overrides, parsed)
    refuse_other_sweepers(asked)
    if not str(cfg.hydra.sweeper._target_).startswith("hydra_plugins.dltrain."):
        refuse_empty(overrides, parsed, config)
        refuse_unheard(asked)
    is_new = is_named_by_time(cfg)  # another may have been as fast: it gets a suffix
    claim = Claim(directory, fresh=is_new, what="the sweep's directory")
    with nullcontext() if dry_run else claim:
        directory = claim.take() if is_new and not dry_run else directory
        goes_on = is_sweep(directory)
        if not goes_on:
            refuse_foreign_runs(directory)
        ledger = read_ledger(directory) if goes_on else Ledger(directory)
        task = SweepTask(
            folder=directory, claim=claim, ledger=ledger, allowed=allowed, signals=SIGNALS,
            fixed={override.get_key_element().lstrip("+~") for _, override in pairs
                   if not override.is_sweep_override()},
            config=config,
            settings=asked["settings"],
            asked=asked,
            changes=changes(ledger.asked, overrides, settings=asked["settings"],
                            launcher=asked["launcher"]) if goes_on else {},
            argv=list(sys.argv),
            dry_run=dry_run,
            subdir_typed=any(text.startswith("hydra.sweep.subdir=") for text in overrides),
        )  # fmt: skip
        rest = [arg for arg in argv if not arg.startswith("hydra.sweep.dir=")]
        with nothing_left_behind(directory):
            return list_or_run(task, rest, cfg)


def of_all_jobs(pairs: Sequence[tuple[str, Any]]) -> list[str]:
    """What is not swept over, and not of a group that is: `model=cnn,resnet20 model.stem=cifar`."""
    swept = tuple(f"{o.key_or_group}." for _, o in pairs if o.is_sweep_override())
    return [
        text
        for text, override in pairs
        if not override.is_sweep_override()
        and not override.get_key_element().lstrip("+~").startswith(swept)
    ]


def is_named_by_time(cfg: DictConfig) -> bool:
    unresolved: Any = OmegaConf.to_container(cfg.hydra.sweep)
    return "${now:" in str(unresolved["dir"])


@contextmanager
def nothing_left_behind(directory: Path) -> Iterator[None]:
    """Hydra's own sweeper makes the directory before a job is looked at: a mistake undoes that."""
    new = [path for path in (directory, *directory.parents) if not path.exists()]
    record = directory / "multirun.yaml"
    had_record = record.exists()
    try:
        yield
    except BaseException:
        if not had_record and not is_sweep(directory):
            record.unlink(missing_ok=True)
            with suppress(OSError):  # there is something in it
                for path in new:
                    path.rmdir()
        raise


def resume_sweep(
    directory: Path, overrides: list[str], allowed: list[str], *, dry_run: bool = False
) -> int:
    """Runs what is left of a sweep, with the configs that were recorded when it began.

    What may be typed is how its jobs are run; see `sweep_changes`.
    """
    claim = Claim(directory, what="the sweep's directory")
    with nullcontext() if dry_run else claim:
        ledger = read_ledger(directory)
        refuse_changes(overrides, ledger.asked.get("sweeper"))
        stored = stored_arguments(ledger.asked, overrides)
        cfg = composing.compose([*stored, *overrides])
        settings = check_sweep(OmegaConf.select(cfg, "sweep"))
        launcher = str(cfg.hydra.runtime.choices["hydra/launcher"])
        task = SweepTask(
            folder=directory,
            claim=claim,
            ledger=ledger,
            allowed=allowed,
            signals=SIGNALS,
            fixed=set(),
            config={},
            settings=settings,
            asked=ledger.asked,
            argv=list(sys.argv),
            goes_on=True,
            dry_run=dry_run,
            changes=changes(ledger.asked, overrides, settings=settings, launcher=launcher),
        )
        return list_or_run(task, ["-m", *stored, *overrides], cfg)


def stored_arguments(asked: dict[str, Any], typed: list[str]) -> list[str]:
    """Of what `sweep.json` holds the settings of the sweep and its launcher, as plain data.

    It may come from anywhere: nothing in it is interpolated, and no `_target_` is taken.
    """
    found = []
    keys = {text.lstrip("+").partition("=")[0] for text in typed}
    launcher, sweeper = asked.get("launcher"), asked.get("sweeper")
    if "hydra/launcher" not in keys and launcher is not None:
        if launcher not in LAUNCHERS:
            raise UserError(
                f"{runs.SWEEP} names the launcher {shorten(repr(launcher), 60)}, which is none of "
                f"{', '.join(LAUNCHERS)}\ntype the one that is meant: hydra/launcher=..."
            )
        found.append(f"hydra/launcher={launcher}")
    found.append(f"hydra/sweeper={sweeper if sweeper in DECIDING else 'recorded'}")
    lists = [asked.get(name) for name in ("hydra", "overrides")]
    texts = [text for each in lists if isinstance(each, list) for text in each]
    for text in dict.fromkeys(text for text in texts if isinstance(text, str)):
        key = key_of(text)
        if key.startswith(ITS_SETTINGS) and is_another(launcher, typed):
            continue
        known = key.startswith(("hydra.launcher.", "hydra.sweeper."))
        if key.startswith(TYPED_ONLY) and key not in keys:
            raise UserError(
                f"the sweep was started with `{text}`, which can run any code: to take it from a "
                "file would be to trust the file\n"
                f"type it again after `dltrain resume SWEEP`, or {key}=null to go without"
            )
        if known and key not in keys and "${" not in text and "_target_" not in text:
            found.append(text)
    return [*found, *stored_settings(asked.get("settings"), keys)]


def stored_settings(settings: Any, typed: set[str]) -> list[str]:
    """What still counts of the `sweep` node, as it was when the sweep began: its file may have been
    edited since, or lie in a folder that is not named now."""
    found = []
    for name in KEPT_SETTINGS if isinstance(settings, dict) else ():
        try:
            text = f"sweep.{name}={write(settings[name])}" if name in settings else ""
        except RecursionError:
            text = ""
        if text and f"sweep.{name}" not in typed and "${" not in text and "_target_" not in text:
            found.append(text)
    return found


def list_or_run(task: SweepTask, argv: list[str], cfg: DictConfig) -> int:
    """`cfg` has the launcher."""
    if not task.dry_run:
        return run_sweep(task, argv, str(cfg.hydra.runtime.choices["hydra/launcher"]))
    from dltrain.commands.sweep_cluster import check_listed

    check_listed(cfg.hydra.launcher)
    return list_jobs(task, argv)


def run_sweep(task: SweepTask, argv: list[str], launcher: str) -> int:
    """Through Hydra, whose sweeper and launcher are given the task."""
    quoted = str(task.folder).replace("\\", "\\\\").replace("'", "\\'")
    if task.ledger.asked:
        task.signals.go_on = task.go_on_by
    # .hydra/ is written by us, once the directory is known to hold no other run
    with task.closing:
        if launcher in WARM:
            warm_pool(task)
        code = through_hydra(
            [*argv, f"hydra.sweep.dir='{quoted}'", "hydra.output_subdir=null"], task
        )
    failed = say_end(task)
    return task.exit_code or (1 if failed else code)


def well_formed(overrides: list[str], config: dict[str, Any]) -> bool:
    """True; a malformed override raises the UserError that composing it would."""
    try:
        composing.parse_overrides(overrides)
    except Exception:
        composing.compose(overrides, **config)
    return True


def refuse_hydra_keys(overrides: list[str], parsed: list[Any]) -> None:
    """Where jobs go and who runs them is one thing for all of them."""
    for text, override in zip(overrides, parsed, strict=True):
        if override.is_sweep_override() and override.is_hydra_override():
            raise UserError(f"`{text}`: what is Hydra's own cannot be swept over; give one value")


def refuse_other_sweepers(asked: dict[str, Any]) -> None:
    """What is for one sweeper would be passed over in silence by the others."""
    neutral = check_sweep(None)
    for name in DECIDING:
        if asked["sweeper"] != name and asked["settings"][name] != neutral[name]:
            changed = [k for k, v in asked["settings"][name].items() if v != neutral[name][k]]
            raise UserError(
                f"sweep.{name}.{changed[0]} is for hydra/sweeper={name}, and this sweep has "
                f"hydra/sweeper={asked['sweeper']}; add hydra/sweeper={name}, or leave it out"
            )


def refuse_unheard(asked: dict[str, Any]) -> None:
    """A sweeper that is not ours reads nothing of the `sweep` node."""
    neutral = check_sweep(None)
    for name in ("repeat", "grid", "zip", "list", "when", "random"):
        if (asked["settings"][name] or None) != (neutral[name] or None):
            raise UserError(
                f"sweep.{name} is for hydra/sweeper=grid, and this sweep has "
                f"hydra/sweeper={asked['sweeper']}; leave one of them out"
            )


def refuse_empty(overrides: list[str], parsed: list[Any], config: dict[str, Any]) -> None:
    """Hydra's own sweeper runs no job where there is nothing to try, and says nothing."""
    for text, override in zip(overrides, parsed, strict=True):
        kind = override.value_type.name if override.is_sweep_override() else ""
        if kind == "INTERVAL_SWEEP":
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
