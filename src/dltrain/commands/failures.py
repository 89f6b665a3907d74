"""How a run ends that does not complete: what is recorded, and what the user reads."""

from __future__ import annotations

import errno
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dltrain import runs
from dltrain.commands.run import Run
from dltrain.durable import storage_error
from dltrain.errors import (
    EVALUATING,
    NO_PERMISSION,
    NO_SPACE,
    DltrainError,
    NonFiniteError,
    UserError,
    WorkerError,
)

log = logging.getLogger("dltrain")
# What torch says when an allocator gives nothing more, where it has no exception for it
NO_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


@contextmanager
def recorded_failures(run: Run) -> Iterator[None]:
    """A run that fails says so in its summary; the traceback of a fault goes to `train.log`."""
    try:
        yield
    except BaseException as caught:
        with suppress(Exception):  # a second failure must not hide the first
            run.trainer.close()
        error = explain(caught, run)
        expected = isinstance(error, DltrainError) or is_storage_error(error)
        foreseen = isinstance(caught, DltrainError) or is_storage_error(caught)
        with suppress(OSError):
            log.debug("%s", error if foreseen else traceback.format_exc())
        with suppress(OSError):
            run.save_summary("failed")
        with suppress(OSError):
            run.close("failed")
        if expected or not isinstance(error, Exception):
            raise error from caught.__cause__
        last = traceback.format_exception_only(error)[-1].strip()
        raise DltrainError(f"{last}\nthe traceback is in {run.dir / runs.LOG}") from error


def explain(error: BaseException, run: Run) -> BaseException:
    """The same failure with what the run knows of it; as it is where that is nothing."""
    if isinstance(error, NonFiniteError):
        return describe_nonfinite(error, run)
    if isinstance(error, WorkerError):
        return type(error)(f"{error}\n{run.saver.describe_last()}")
    if is_out_of_memory(error):
        return DltrainError(describe_out_of_memory(error, run))
    return error


def describe_nonfinite(error: NonFiniteError, run: Run) -> NonFiniteError:
    trainer, settings = run.trainer, run.config["trainer"]
    advice = ["a smaller optimizer.lr"]
    advice += ["trainer.max_grad_norm=1"] if settings["max_grad_norm"] is None else []
    advice += ["trainer.on_nonfinite=skip"] if settings["on_nonfinite"] == "stop" else []
    return NonFiniteError(
        f"step {trainer.step + 1 - error.steps_ago}: {error}; lr {trainer.update.lr:g}\n"
        f"try {' or '.join(advice)}\n"
        f"{run.saver.describe_last()}"
    )


def describe_out_of_memory(error: BaseException, run: Run) -> str:
    """Which setting to halve: the micro-batch, which changes no result, or the batch."""
    loader, accumulate = run.config["loader"], run.config["trainer"]["accumulate"]
    evaluating = EVALUATING in getattr(error, "__notes__", [])
    where = f"{EVALUATING} after" if evaluating else "after"
    lines = [f"out of memory {where} step {run.trainer.step:,}: {first_sentences(error)}"]
    if evaluating:
        half = max(1, loader["eval_batch_size"] // 2)
        lines.append(f"try loader.eval_batch_size={half}")
    elif accumulate < loader["batch_size"]:
        more = min(2 * accumulate, loader["batch_size"])
        lines.append(
            f"try trainer.accumulate={more}: the same steps in less memory; "
            f"or loader.batch_size={loader['batch_size'] // 2}"
        )
    else:
        lines.append("one sample at a time does not fit: choose a smaller model")
    lines.append(run.saver.describe_last())
    return "\n".join(lines)


@contextmanager
def enough_memory() -> Iterator[None]:
    """Before the first step it is the model, or the dataset, that does not fit."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"the model and the data do not fit into memory: {first_sentences(error)}"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in NO_MEMORY)


def first_sentences(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    head, _, rest = text.partition("DefaultCPUAllocator: ")
    return ". ".join((rest or head).split(". ")[:2]).removesuffix(".")  # and how much was wanted


@contextmanager
def storage_errors() -> Iterator[None]:
    """A disk that is full or may not be written, wherever it shows, is exit code 5."""
    try:
        yield
    except OSError as error:
        if is_storage_error(error):
            raise storage_error(error) from error
        raise


def is_storage_error(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (*NO_SPACE, *NO_PERMISSION, errno.EIO)
