"""What the processes of jobs import, begun before anything else that takes time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dltrain.sweeps.ledger import JobRecord

ENTRY = "dltrain.commands.sweep_child:main"
# What every run imports, beside what its config names: a job that starts warm imports nothing more
MODULES = (
    "torch", "dltrain.commands.sweep_child", "dltrain.engine.trainer", "dltrain.engine.device",
    "dltrain.engine.guard", "dltrain.engine.state", "dltrain.engine.update",
    "dltrain.optimizers.eager", "dltrain.optimizers.fused", "dltrain.optimizers.groups",
    "dltrain.schedulers.warmup", "dltrain.data.fingerprint", "dltrain.data.resident",
    "dltrain.data.pictures", "dltrain.data.workers", "dltrain.interpret.mistakes",
    "dltrain.interpret.pictures", "dltrain.interpret.pr_curves", "dltrain.interpret.tally",
    "omegaconf._impl", "numpy.random", "safetensors.torch", "torch.nested._internal.nested_tensor",
)  # fmt: skip
# and what those need once they are used
NEEDED = {
    "dltrain.loggers.tensorboard": (
        "dltrain.loggers.images", "PIL.Image", "PIL.ImageDraw", "PIL.ImageFont",
        "tensorboard.plugins.pr_curve.plugin_data_pb2",
    ),
}  # fmt: skip
TRUSTED = ("dltrain.", "torch.")  # whose modules start nothing when they are imported
# Of these launchers, jobs are processes of ours
WARM = ("local", "stacked")
# With these no job begins, or a zygote would not find what the command does
NOT_NOW = ("--dry-run", "--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i")

_begun: list[Any] = []  # a starter that waits for whom it is for


@contextmanager
def begun_early(argv: Sequence[str]) -> Iterator[None]:
    """Within it a zygote imports what jobs need, if `argv` are those of a sweep; on another core
    it is done when the jobs are composed. One that nobody takes is ended.
    """
    if wants_jobs(argv):
        _begun.append(take_starter())
    try:
        yield
    finally:
        while _begun:
            _begun.pop().close()


def wants_jobs(argv: Sequence[str]) -> bool:
    launchers = {arg.partition("=")[2] for arg in argv if arg.startswith("hydra/launcher=")}
    return (
        list(argv[:1]) == ["train"]
        and any(arg in ("-m", "--multirun") for arg in argv)
        and not any(arg.startswith((*NOT_NOW, "--allow-target")) for arg in argv)
        and launchers <= set(WARM)
    )


def take_starter() -> Any:
    """The one that was begun, or a new one; it is the caller's."""
    from dltrain.sweeps.starters import make_starter  # a command without jobs needs none of it

    return _begun.pop() if _begun else make_starter(ENTRY, MODULES)


def modules_of(job: JobRecord) -> list[str]:
    """Where the classes that a config names are."""
    found: list[str] = []
    nodes: list[Any] = [job.config]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            target = node.get("_target_")
            if isinstance(target, str) and target.startswith(TRUSTED):
                module = target.rpartition(".")[0]
                found += [module, *NEEDED.get(module, ())]
            nodes += node.values()
    return sorted(set(found))
