"""The device, precision and threads of a run, and what is set for the whole process."""

from __future__ import annotations

import os
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dltrain import cores
from dltrain.engine.seeding import seed_everything
from dltrain.errors import UserError


def choose_device(wanted: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` as a device that exists; UserError where it does not."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            f"trainer.device is {wanted}, but torch sees no CUDA device; use cpu or auto"
        )
    device = torch.device("cuda:0" if wanted in ("auto", "cuda") else wanted)
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        raise UserError(
            f"trainer.device is {wanted}; there are {count} CUDA devices, from cuda:0 on"
        )
    torch.cuda.set_device(device)  # what names no device, pinned memory say, is of this one
    return device


def choose_precision(wanted: str, device: torch.device) -> str:
    """`auto`: bf16 where the hardware computes in it, else fp32. The impossible is refused."""
    cuda = device.type == "cuda"
    if wanted == "auto":
        capable = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if cuda
            else torch.cpu._is_avx512_bf16_supported()
        )
        return "bf16" if capable else "fp32"
    if wanted in ("fp16", "tf32") and not cuda:
        raise UserError(
            f"trainer.precision is {wanted}, which needs CUDA; on a CPU use bf16 or fp32"
        )
    return wanted


def prepare_process(
    *, seed: int, device: torch.device, precision: str, deterministic: bool, threads: int | None
) -> None:
    """Threads (None: as torch has them), determinism, how fp32 is multiplied, and the seed."""
    if threads is not None:
        torch.set_num_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    if deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(deterministic)  # imports torch._inductor: 1 s
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not deterministic
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    seed_everything(seed)


def process_settings() -> dict[str, Any]:
    """What `prepare_process` sets, as it is now; the generators are in `seeding`."""
    settings: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
    }
    with suppress(RuntimeError):  # set by torch's newer `fp32_precision`, which does not mix
        settings["allow_tf32"] = torch.backends.cudnn.allow_tf32
        settings["matmul"] = torch.get_float32_matmul_precision()
    return settings


def restore_process(settings: dict[str, Any]) -> None:
    """Puts back what `process_settings` has found, where it is another now."""
    wanted = dict(settings.items() - process_settings().items())
    if "threads" in wanted:
        torch.set_num_threads(settings["threads"])
    if wanted.keys() & {"deterministic", "warn_only"}:
        torch.use_deterministic_algorithms(
            settings["deterministic"], warn_only=settings["warn_only"]
        )
    if "benchmark" in wanted:
        torch.backends.cudnn.benchmark = settings["benchmark"]
    if "allow_tf32" in wanted:
        torch.backends.cudnn.allow_tf32 = settings["allow_tf32"]
    if "matmul" in wanted:
        torch.set_float32_matmul_precision(settings["matmul"])


# As torch found it: an earlier run of this process may have set fewer
FOUND = process_settings()
MAX_THREADS: int = FOUND["threads"]
MULTIPLY_ADDS_A_THREAD = 10_000_000  # about 0.1 ms: less is not worth waking a thread for


def set_suitable_threads(model: nn.Module, batch: Any, accumulate: int) -> None:
    """Takes as many CPU threads as a step on `batch` keeps busy, at most what torch would take.

    Counted, not timed, so that the same run gets the same number, and with it the same roundings.
    Threads that wait for each other cost most on small models, on many cores, and where others
    compute too: an MLP on two busy cores took 10 times longer with two threads than with one.
    """
    multiply_adds = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal multiply_adds
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() > 1 and isinstance(output, Tensor):
            multiply_adds += output.numel() * weight[0].numel()

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(batch.inputs[:1])
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    num_samples = len(batch.inputs) // accumulate
    per_step = 3 * multiply_adds * num_samples  # the backward pass costs two forward passes
    busy = per_step // MULTIPLY_ADDS_A_THREAD
    torch.set_num_threads(max(1, min(MAX_THREADS, cores.available(), busy)))


def make_autocast(precision: str, device: torch.device) -> Any:
    """A function that gives the context of a forward pass; the neutral one for fp32 and tf32."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return nullcontext if dtype is None else partial(torch.autocast, device.type, dtype=dtype)


def device_name(device: torch.device) -> str:
    """`cpu`, or `cuda:0 (NVIDIA H100 80GB HBM3)`."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else "cpu"
