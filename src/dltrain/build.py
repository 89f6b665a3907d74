"""cfg -> objects: the one caller of Hydra's instantiate, and where every choice is made, once.

torch is imported by what is called after the data has been read, and not by this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from dltrain.config.check import target_nodes
from dltrain.config.durations import EPOCHS, PERCENT, SECONDS, STEPS, Duration, parse_duration
from dltrain.config.monitors import check_monitors
from dltrain.config.signatures import TargetError
from dltrain.config.targets import check_object
from dltrain.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dltrain.engine.plan import Plan
    from dltrain.engine.trainer import Trainer

Config = dict[str, Any]
PARTIAL, HYDRAS_OWN = "_partial_", ("_args_", "_recursive_", "_convert_")
# What a constructor raises of its arguments
CONSTRUCTOR_ERRORS = (ValueError, TypeError, ImportError, OSError, LookupError, AttributeError)


def make(config: Config, key: str, *, allowed: Sequence[str] = (), **arguments: Any) -> Any:
    """The object of the `_target_` at the dotted `key`; UserError where its constructor objects."""
    node: Any = config
    for part in key.split("."):
        node = node[part]
    for where, nested in (nodes := list(target_nodes(node, key))):
        found = locate(nested["_target_"], where)
        try:
            check_object(found, allowed)
        except TargetError as error:
            raise UserError(f"{where}._target_: {error}") from error
    try:
        if len(nodes) == 1 and not any(name in node for name in HYDRAS_OWN):
            return call(found, node, arguments)
        return instantiate(OmegaConf.create(node), **arguments, _convert_="all")
    except InstantiationException as error:
        if isinstance(cause := error.__cause__ or error, CONSTRUCTOR_ERRORS):
            raise refusal(key, cause) from error
        raise cause from None  # no memory, say: not Hydra's fault
    except CONSTRUCTOR_ERRORS as error:
        raise refusal(key, error) from error


def call(function: Any, node: Config, arguments: Config) -> Any:
    """As Hydra's instantiate, of plain data without a `_target_` in it: 1 ms sooner."""
    given = {k: deepcopy(v) for k, v in node.items() if k not in ("_target_", PARTIAL)} | arguments
    return partial(function, **given) if node.get(PARTIAL) else function(**given)


def refusal(key: str, error: BaseException) -> UserError:
    # A leaf that names its key itself is not named again
    return UserError(text if (text := str(error)).startswith(key) else f"{key}: {text}")


def locate(target: str, key: str) -> Any:
    try:
        return get_object(target)
    except Exception as error:  # importing somebody's module can fail in any way
        reason = error.__cause__ or error
        raise UserError(f"{key}._target_ `{target}` cannot be imported: {reason}") from error


def make_all(config: Config, group: str, allowed: Sequence[str]) -> dict[str, Any]:
    """The objects of a group, in the config's order."""
    return {name: make(config, f"{group}.{name}", allowed=allowed) for name in config[group] or {}}


# ---------------------------------------------------------------------- model, optimizer, schedule


def make_model(config: Config, device: torch.device, allowed: Sequence[str] = ()) -> nn.Module:
    """The model on `device`, its weights made on the CPU: the same for a seed on any device."""
    model: nn.Module = make(config, "model", allowed=allowed)
    if config["init_from"] is not None:
        from dltrain.engine.weights import load_weights

        load_weights(model, Path(config["init_from"]))
    model.to(device)
    return model


def make_update(
    config: Config, model: nn.Module, plan: Plan, precision: str, allowed: Sequence[str] = ()
) -> Any:
    """The optimizer, its schedule, and what stands between gradients and weights."""
    from dltrain.engine.guard import DeviceGuard, HostGuard, ScalerGuard
    from dltrain.engine.update import ScaledUpdate, Update
    from dltrain.optimizers.eager import eager_step, keep_dynamo_out

    trainer = config["trainer"]
    if not trainer["compile"]:
        keep_dynamo_out()
    device = next(model.parameters()).device
    optimizer = make_optimizer(config, model, device, allowed)
    skip = trainer["on_nonfinite"] == "skip"
    common = {"schedule": make_schedule(config, plan, allowed), "clip": make_clip(trainer)}
    if precision == "fp16":
        return ScaledUpdate(
            model, optimizer, guard=ScalerGuard(model, optimizer, device, skip=skip), **common
        )
    # A fused SGD leaves the momentum of a skipped first step uninitialised
    unsafe = skip and optimizer.defaults.get("momentum")
    on_device = device.type == "cuda" and optimizer.defaults.get("fused") and not unsafe
    guard = (
        DeviceGuard(model, optimizer, skip=skip)
        if on_device
        else HostGuard(model, device, skip=skip)
    )
    step = None if trainer["compile"] else eager_step(optimizer)
    return Update(model, optimizer, guard=guard, step=step, **common)


def make_optimizer(
    config: Config, model: nn.Module, device: torch.device, allowed: Sequence[str]
) -> Any:
    from dltrain.optimizers.fused import fused_arguments
    from dltrain.optimizers.groups import parameter_groups

    node = dict(config["optimizer"])
    grouping = {k: node.pop(k) for k in ("decay_norm_and_bias",) if k in node}
    optimizer_class = locate(node["_target_"], "optimizer")
    faster = fused_arguments(optimizer_class, device.type, node)
    maker = make({"optimizer": node | faster | {PARTIAL: True}}, "optimizer", allowed=allowed)
    try:
        return maker(parameter_groups(model, **grouping))
    except (ValueError, TypeError, RuntimeError) as error:
        raise refusal("optimizer", error) from error


def make_clip(trainer: Config) -> Any:
    """A function that clips gradients by their total norm and gives the norm; None without."""
    limit = trainer["max_grad_norm"]
    if limit is None:
        return None
    import torch

    def clip(grads: list[torch.Tensor]) -> torch.Tensor:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        torch._foreach_mul_(
            grads, (limit / (norm + 1e-6)).clamp(max=1.0)
        )  # as clip_grad_norm_ does
        return norm

    return clip


def make_schedule(config: Config, plan: Plan, allowed: Sequence[str]) -> Any:
    """The schedule, its durations as fractions of the run."""
    node = {
        key: fraction(f"scheduler.{key}", value, plan) for key, value in config["scheduler"].items()
    }
    return make({"scheduler": node}, "scheduler", allowed=allowed)


def fraction(key: str, value: Any, plan: Plan) -> Any:
    """Durations -> fractions of the run; steps and epochs at most 1: it may end before them."""
    if isinstance(value, list):
        return [fraction(key, item, plan) for item in value]
    if not isinstance(value, str):
        return value
    try:
        duration = parse_duration(value)
    except ValueError:
        return value
    if duration.unit == PERCENT:
        return duration.amount / 100
    if plan.num_steps is None:
        raise UserError(f"{key} is {value}, but only time ends this run: write it as a percentage")
    steps = duration.amount * (plan.steps_per_epoch if duration.unit == EPOCHS else 1)
    return min(1.0, steps / plan.num_steps)


# ---------------------------------------------------------------------- the plan


def make_plan(config: Config, steps_per_epoch: int) -> Plan:
    """Every duration in optimizer steps. The default budget holds only where no other is given."""
    import math

    from dltrain.engine.plan import Plan

    trainer = config["trainer"]
    budgets = [
        Duration(trainer["max_epochs"], EPOCHS) if trainer["max_epochs"] else None,
        Duration(trainer["max_steps"], STEPS) if trainer["max_steps"] else None,
        parse_duration(trainer["max_time"], (SECONDS,)) if trainer["max_time"] else None,
    ]
    given = [budget for budget in budgets if budget is not None] or [
        parse_duration(trainer["budget"], (STEPS, EPOCHS, SECONDS))
    ]
    lengths = [
        budget.steps(steps_per_epoch=steps_per_epoch, num_steps=None)
        for budget in given
        if budget.unit != SECONDS
    ]
    num_steps = max(1, min(lengths)) if lengths else None

    def every(key: str, text: str) -> int:
        try:
            duration = parse_duration(text)
            return max(1, duration.steps(steps_per_epoch=steps_per_epoch, num_steps=num_steps))
        except ValueError as error:
            raise UserError(f"{key} is {text}; {error}") from None

    return Plan(
        num_steps=num_steps,
        max_time_sec=min((b.amount for b in given if b.unit == SECONDS), default=math.inf),
        log_every=every("trainer.log_every", trainer["log_every"]),
        eval_every=every("trainer.eval_every", trainer["eval_every"]),
        save_every=every("checkpoint.every", config["checkpoint"]["every"]),
        steps_per_epoch=steps_per_epoch,
        in_epochs=any(b.unit == EPOCHS and b.amount * steps_per_epoch == num_steps for b in given),
    )


# ---------------------------------------------------------------------- everything


def make_trainer(
    config: Config,
    loaders: dict[str, Any],
    device: torch.device,
    *,
    recorder: Any,
    saver: Any,
    threads: int | str,
    run_dir: Path | None = None,
    allowed: Sequence[str] = (),
) -> Trainer:
    """Everything that a training run needs, from a checked config and loaders of `train` and `val`.

    `threads`: a number, or `auto` for as many as a step of this model keeps busy.
    """
    from dltrain.engine.device import make_autocast, set_suitable_threads
    from dltrain.engine.trainer import Trainer

    trainer = config["trainer"]
    precision = prepare(config, device, threads)
    task = make(config, "task", allowed=allowed)
    callbacks = make_all(config, "callbacks", allowed)
    check_monitors(config, callbacks, loaders["val"].num_samples, getattr(task, "metrics", None))
    plan = make_plan(config, len(loaders["train"]))
    model = make_model(config, device, allowed)
    if threads == "auto" and device.type == "cpu":
        batch = next(loaders["train"].epoch(0))
        try:
            set_suitable_threads(model, batch, trainer["accumulate"])
        except (RuntimeError, IndexError) as error:
            shape = list(batch.inputs.shape[1:])
            raise UserError(f"model does not take samples of shape {shape}: {error}") from error
    if trainer["compile"]:
        model.compile()
    return Trainer(
        model=model,
        task=task,
        update=make_update(config, model, plan, precision, allowed),
        train_loader=loaders["train"],
        val_loader=loaders["val"],
        plan=plan,
        recorder=recorder,
        saver=saver,
        callbacks=callbacks,
        autocast=make_autocast(precision, device),
        accumulate=trainer["accumulate"],
        precision=precision,
        run_dir=run_dir,
    )


def prepare(config: Config, device: torch.device, threads: int | str) -> str:
    """Sets what holds for the whole process; the precision that `trainer.precision` stands for."""
    from dltrain.engine.device import choose_precision, prepare_process

    trainer = config["trainer"]
    precision = choose_precision(trainer["precision"], device)
    prepare_process(
        seed=config["seed"],
        device=device,
        precision=precision,
        deterministic=trainer["deterministic"],
        threads=threads if isinstance(threads, int) else None,
    )
    return precision
