"""What launchers of clusters do: check what they were told, and have somebody watch the jobs."""

from __future__ import annotations

from shutil import which
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dltrain.commands.sweep_task import SweepTask
from dltrain.commands.sweep_watch import Watch
from dltrain.errors import UserError
from dltrain.sweeps import ledger as states
from dltrain.sweeps.cluster import Engine, Share, check_settings, require
from dltrain.sweeps.ledger import JobRecord
from dltrain.sweeps.live import choose_screen
from hydra_plugins.dltrain import cluster

PACKAGES = {
    "submitit_slurm": ("submitit", "slurm"),
    "submitit_local": ("submitit", "slurm"),
    "ray": ("ray", "ray"),
}


def check_listed(node: DictConfig) -> None:
    """For `--dry-run`, of which the launcher of a cluster does not hear: `node` is its config.
    Raises UserError for settings that the start would refuse."""
    module, _, name = str(OmegaConf.select(node, "_target_")).rpartition(".")
    if module == cluster.__name__ and hasattr(cluster, name):
        settings: Any = OmegaConf.to_container(node, resolve=True)
        check_settings(getattr(cluster, name).name, settings)


def check(launcher: str, settings: dict[str, Any], *, dry_run: bool) -> None:
    """Raises UserError for settings that cannot be, and for what is needed here and missing."""
    check_settings(launcher, settings)
    if dry_run:  # at home, perhaps
        return
    require(*PACKAGES[launcher], launcher)
    if launcher == "submitit_slurm" and not (which("sbatch") and which("srun")):
        raise UserError(
            "hydra/launcher=submitit_slurm: there is no sbatch and srun here; start the sweep "
            "where jobs are submitted, or try it with hydra/launcher=submitit_local"
        )


def run_on_cluster(
    launcher: str, settings: dict[str, Any], task: SweepTask, left: list[JobRecord]
) -> None:
    """Runs the jobs there; returns when all have ended, or have been stopped or left alone."""
    share = Share.of(settings, task.settings["jobs"])
    if task.pool is None:  # one for all batches of a sweep: Ray takes seconds to start
        task.pool = make_engine(launcher, settings, task, share)
        task.closing.callback(task.pool.close)
    engine: Engine = task.pool
    everything = task.ledger.states()
    num_done = sum(state.state == states.DONE for state in everything)
    at_once = engine.limit or share.asked or settings.get("array_parallelism", len(everything))
    with choose_screen(len(everything), num_done, min(at_once, len(everything))) as screen:
        Watch(task, engine, share, screen).run(left)


def make_engine(launcher: str, settings: dict[str, Any], task: SweepTask, share: Share) -> Engine:
    if launcher == "ray":
        from dltrain.sweeps.ray_engine import RayEngine

        policy, _, times = task.settings["on_error"].partition(":")
        return RayEngine(settings, int(times) if policy == "retry" else 0)
    from dltrain.sweeps.submitit_engine import SlurmEngine, SubmititLocalEngine

    if launcher == "submitit_slurm":
        return SlurmEngine(settings, share.asked)
    return SubmititLocalEngine(settings, share.at_once)
