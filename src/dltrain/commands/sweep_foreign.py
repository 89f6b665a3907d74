"""A job of a sweep whose launcher is not ours, such as joblib's: composed by Hydra, unrecorded."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from dltrain.commands.checked import checked
from dltrain.commands.hydra_app import choices_of, hydra_files
from dltrain.commands.job import run_job
from dltrain.commands.run import Job
from dltrain.config import compose as composing
from dltrain.errors import DltrainError

if TYPE_CHECKING:
    from dltrain.commands.sweep_task import SweepTask


def run_foreign(task: SweepTask, cfg: DictConfig) -> float | None:
    """One job, called by a launcher that is not ours; its failure does not end the others."""
    full = HydraConfig.get()
    run_dir = below_here(Path(full.runtime.output_dir))
    sys.argv = task.argv
    try:
        if task.signals.exit_code:
            return None
        task.signals.on_stop = None  # that of the job before
        result = run_job(job_of_sweep(cfg, run_dir, task.allowed), task.signals)
    except Exception as error:
        task.foreign.append(run_dir.name)
        report_failure(run_dir.name, error)
        return None
    finally:
        with suppress(OSError):
            run_dir.rmdir()  # Hydra makes it; it stays where there is something in it
    if result.exit_code not in (0, 130, 143):
        task.foreign.append(run_dir.name)
    return result.best


def below_here(path: Path) -> Path:
    """Relative, as it was typed, where that is shorter to read: Hydra makes it absolute."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def job_of_sweep(cfg: DictConfig, run_dir: Path, allowed: list[str]) -> Job:
    full = OmegaConf.merge({"hydra": HydraConfig.get()}, cfg)
    assert isinstance(full, DictConfig)
    return Job(
        run_dir=run_dir,
        config=checked(composing.job_config(cfg), allowed=allowed),
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
