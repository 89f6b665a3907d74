"""The launcher that trains jobs together; every start of Hydra imports this file, so little."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class StackedLauncher(Launcher):
    """Jobs of one network together, as one stacked model."""

    stops_jobs = True  # where a sweeper says so, to go on later or never

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from dltrain.commands.sweep_launch import launch
        from dltrain.commands.sweep_stacked import stacked

        return launch(self, job_overrides, initial_job_idx, stacked)
