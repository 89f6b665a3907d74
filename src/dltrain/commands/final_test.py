"""After training: the test of the final weights, what it shows, and the weights for other tools."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from dltrain import runs
from dltrain.commands.signals import Signals
from dltrain.durable import replace, temporary_name
from dltrain.findings import Examined, can_be_examined

if TYPE_CHECKING:
    from dltrain.commands.run import Run


def test(run: Run, signals: Signals) -> None:
    """Tests the best weights (or the last) once, and writes them where any tool finds them."""
    from dltrain.engine.evaluate import EvaluationAbandonedError
    from dltrain.engine.tensors import write_tensors

    trainer = run.trainer
    best = run.saver.load_best() if run.config["checkpoint"]["final"] == "best" else None
    if best is not None:
        trainer.model.load_state_dict(best.model)
        trainer.load_callbacks(best.state)
        run.tested = f"the best weights, of step {best.step:,}"
    loader = run.loaders["test"] = run.make_loader(split="test")
    try:
        metrics = examine(run, "test", loader, signals)
        if metrics:
            run.recorder.row(trainer, "test", metrics)
        elif is_shown(run):  # what there is of it is of the samples that chose the weights
            examine(run, "val", run.loaders["val"], signals)
    except EvaluationAbandonedError:
        return
    temporary = temporary_name(run.dir / runs.WEIGHTS)
    weights = {name: w.cpu() for name, w in trainer.eval_model.state_dict().items()}
    _, run.weights_sha256 = write_tensors(temporary, weights)
    replace(temporary, run.dir / runs.WEIGHTS)


def is_shown(run: Run) -> bool:
    """Whether anybody wants to see more of an evaluation than its metrics."""
    return run.recorder.takes("log_picture") and can_be_examined(run.trainer.task)


def examine(run: Run, split: str, loader: Any, signals: Signals) -> dict[str, float]:
    """The metrics of `split`, the same whether or not somebody looks; {} if it has no samples."""
    from dltrain.engine.evaluate import evaluate

    trainer = run.trainer
    task: Any = Examined(trainer.task) if is_shown(run) else trainer.task
    metrics = evaluate(
        trainer.eval_model,
        task,
        loader,
        autocast=trainer.autocast,
        abandoned=lambda: bool(signals.received),
    )
    if metrics and task is not trainer.task:
        found, now = task.read(split, run.data.dataset), time.time()
        for name, picture in found.pictures.items():
            run.recorder.show("log_picture", trainer.step, name, picture, now)
        for name, counts in found.pr_curves.items():
            run.recorder.show("log_pr_curve", trainer.step, name, counts, now)
    return metrics
