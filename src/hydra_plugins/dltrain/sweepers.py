"""The sweeper of `dltrain train -m`; every start of Hydra imports this file: it imports little."""

from __future__ import annotations

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """What is typed and the `sweep` node -> jobs: grids, pairs, settings, conditions, draws, seeds.

    params: keys and what they take, as Hydra's own sweeper has it; they count as `sweep.grid`.
    """

    launcher: Launcher

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.params = params or {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from dltrain.commands.sweep_grid import grid_jobs

        return [self.launcher.launch(grid_jobs(self, arguments), initial_job_idx=0)]
