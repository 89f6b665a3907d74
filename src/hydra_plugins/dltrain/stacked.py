"""The launcher that trains jobs together; every start of Hydra imports this file, so little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn

from hydra_plugins.dltrain.launchers import RecordingLauncher


class StackedLauncher(RecordingLauncher):
    """Jobs of one network together, as one stacked model."""

    stops_jobs = True  # where a sweeper says so, to go on later or never

    def at_once(self, like: Any) -> int:
        from dltrain.commands.sweep_local import at_once

        task: Any = self.task_function
        return at_once(task, like)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from dltrain.commands.sweep_launch import launch
        from dltrain.commands.sweep_stacked import stacked

        return launch(self, job_overrides, initial_job_idx, stacked)
