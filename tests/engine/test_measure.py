"""Where the time of a step goes: what is measured is what the trainer does."""

import time

import pytest
import torch

from dltrain.engine.measure import PARTS, measure


class SlowLoader:
    """A loader that sleeps before each batch."""

    storage = "device"

    def __init__(self, loader, sleep_sec):
        self.loader, self.sleep_sec = loader, sleep_sec
        self.num_samples = loader.num_samples

    def __len__(self):
        return len(self.loader)

    def epoch(self, epoch, start=0):
        for batch in self.loader.epoch(epoch, start):
            time.sleep(self.sleep_sec)
            yield batch


@pytest.fixture
def trainer(training, tmp_path):
    run = training.make_run(tmp_path / "run", accumulate=2, log_every=3)
    run.metrics_log.open(0)
    yield run.trainer
    run.metrics_log.close()


def test_nothing_is_evaluated_or_saved_and_no_weight_changes(trainer):
    before = [p.detach().clone() for p in trainer.model.parameters()]
    measured = measure(trainer, 0.1)
    assert trainer.step > trainer.plan.steps_per_epoch
    assert trainer.num_samples > 0, "rows are logged, as in training"
    assert trainer.done["evaluate"] == 0
    assert trainer.saver.last_saved is None
    assert all(map(torch.equal, before, trainer.model.parameters()))
    for part in PARTS:
        assert len(getattr(measured, part)) >= 3
        assert 0 < measured.median(part) < 1


def test_waiting_for_slow_data_is_seen(trainer):
    """Sleeping takes at least its time on any machine."""
    trainer.train_loader = SlowLoader(trainer.train_loader, 0.02)
    measured = measure(trainer, 0.1)
    assert min(measured.data) >= 0.0199
    assert min(measured.both) >= 0.0199
    for waiting, both in zip(measured.waiting, measured.both, strict=True):
        assert waiting * both >= 0.0199
