"""Evaluation: exact sums over a whole split."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.engine.sums import Task
from dltrain.errors import EVALUATING


class EvaluationAbandonedError(Exception):
    """A stop was asked for while evaluating; the evaluation is done again after resuming."""


def evaluate(
    model: nn.Module,
    task: Task,
    loader: Any,
    *,
    autocast: Callable[[], AbstractContextManager[Any]],
    abandoned: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """The metrics of `model` over every sample of `loader`, each counted once; {} if it has none.

    Raises EvaluationAbandonedError as soon as `abandoned()`, asked before every batch.
    """
    was_training = model.training
    model.eval()
    totals: dict[str, Tensor] = {}
    try:
        with torch.no_grad(), autocast():
            for batch in loader.epoch(0):
                if abandoned():
                    raise EvaluationAbandonedError
                for name, value in task.evaluate(model, batch).items():
                    totals[name] = totals[name] + value if name in totals else value
    except RuntimeError as error:
        error.add_note(EVALUATING)
        raise
    finally:
        model.train(was_training)
    if not totals:
        return {}
    values = torch.stack([total.double() for total in totals.values()]).tolist()  # the one wait
    return {name: v / loader.num_samples for name, v in zip(totals, values, strict=True)}
