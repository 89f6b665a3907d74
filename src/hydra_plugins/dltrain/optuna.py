"""`hydra/sweeper=optuna`; every start of Hydra imports this file, so it imports little."""

from __future__ import annotations

from typing import Any

from hydra_plugins.dltrain.sweepers import GridSweeper


class OptunaSweeper(GridSweeper):
    """Jobs that a sampler of optuna makes of what came out of those before."""

    def sweep(self, arguments: list[str]) -> Any:
        from dltrain.commands.sweep_search import search_sweep

        return search_sweep(self, arguments)
