"""Launchers of `dltrain train -m`; every start of Hydra imports this file, so it imports little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class RecordingLauncher(Launcher):
    """What all share: the task that Hydra hands over is the sweep.

    Those of which a sweeper may ask for jobs batch by batch have `at_once(like)`: how many jobs
    like this one they run at once.
    """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function


class BasicLauncher(RecordingLauncher):
    """Jobs one after another in this process, recorded in the sweep's ledger."""

    stops_jobs = True  # where a sweeper says so, to go on later or never

    def at_once(self, like: Any) -> int:
        return 1

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from dltrain.commands.sweep_launch import launch, one_after_another

        return launch(self, job_overrides, initial_job_idx, one_after_another)


class LocalLauncher(RecordingLauncher):
    """Jobs in processes of their own, `sweep.jobs` at once, recorded in the sweep's ledger."""

    stops_jobs = True

    def at_once(self, like: Any) -> int:
        from dltrain.commands.sweep_local import at_once

        task: Any = self.task_function
        return at_once(task, like)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from dltrain.commands.sweep_launch import launch
        from dltrain.commands.sweep_local import execute

        return launch(self, job_overrides, initial_job_idx, execute)
