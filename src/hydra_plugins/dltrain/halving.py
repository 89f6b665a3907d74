"""`hydra/sweeper=halving`; every start of Hydra imports this file, so it imports little."""

from __future__ import annotations

from typing import Any

from hydra_plugins.dltrain.sweepers import GridSweeper


class HalvingSweeper(GridSweeper):
    """The jobs of a grid: all train a little, the best go on, by successive halving."""

    def sweep(self, arguments: list[str]) -> Any:
        from dltrain.commands.sweep_halving import halving_sweep

        return halving_sweep(self, arguments)
