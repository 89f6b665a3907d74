"""The sweeper of `dltrain resume SWEEP`: the jobs are those that were recorded."""

from __future__ import annotations

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class RecordedSweeper(Sweeper):
    """Hands all jobs of the ledger to the launcher, which runs those that are left."""

    launcher: Launcher

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.task: Any = task_function
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        jobs = self.task.ledger.jobs
        return self.launcher.launch([jobs[number].overrides for number in sorted(jobs)], 0)
