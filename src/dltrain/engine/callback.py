"""What a callback may do around training, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dltrain.engine.trainer import Trainer


class Callback:
    """Does nothing; override what you need, and only that is ever called.

    The order within a step is fixed by the trainer: update, `after_update`, logging (`on_log`),
    evaluation (`on_evaluate`), checkpoint. What `state_dict` returns (tensors, numbers, strings,
    dicts and lists of them) is saved in every checkpoint under the callback's key in the config.
    """

    def on_fit_start(self, trainer: Trainer) -> None:
        """Called once, before the state of a run that goes on is loaded."""

    def after_update(self, trainer: Trainer) -> None:
        """Called after every optimizer step: whatever it costs, every step pays."""

    def on_log(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Called with each row that goes to `metrics.jsonl`."""

    def on_evaluate(self, trainer: Trainer, split: str, metrics: dict[str, float]) -> None:
        """Called after each evaluation, before the checkpoint that belongs to it."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """Called once, however training ended."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on as though nothing had happened."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""


def overriding(callbacks: list[Callback], method: str) -> list[Any]:
    """The bound `method` of those that override it: an event nobody wants costs nothing."""
    base = getattr(Callback, method)
    return [getattr(c, method) for c in callbacks if getattr(type(c), method) is not base]
