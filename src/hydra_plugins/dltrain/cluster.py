"""Launchers for clusters: `hydra/launcher=submitit_slurm`, `submitit_local` and `ray`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.dltrain.launchers import RecordingLauncher


class ClusterLauncher(RecordingLauncher):
    """What they share: the work is in dltrain, imported when there is some."""

    name = ""
    stops_jobs = True  # where a sweeper says so; a judge's answer comes some seconds later

    def __init__(self, **settings: Any) -> None:
        self.settings = {
            key: OmegaConf.to_container(value, resolve=True)
            if OmegaConf.is_config(value)
            else value
            for key, value in settings.items()
        }

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        from dltrain.commands.sweep_cluster import check

        dry_run = getattr(task_function, "dry_run", False)
        check(self.name, self.settings, dry_run=dry_run)  # a mistake costs a second

    def at_once(self, like: Any) -> int:
        from dltrain.sweeps.cluster import Share

        task: Any = self.task_function
        return Share.of(self.settings, task.settings["jobs"]).at_once

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from functools import partial

        from dltrain.commands.sweep_cluster import run_on_cluster
        from dltrain.commands.sweep_launch import launch

        execute = partial(run_on_cluster, self.name, self.settings)
        return launch(self, job_overrides, initial_job_idx, execute, running=True)


class SlurmLauncher(ClusterLauncher):
    name = "submitit_slurm"


class SubmititLocalLauncher(ClusterLauncher):
    name = "submitit_local"


class RayLauncher(ClusterLauncher):
    name = "ray"
