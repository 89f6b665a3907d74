"""A small real training run, in memory but for its checkpoints."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from dltrain import runs
from dltrain.callbacks.ema import EMA
from dltrain.data.resident import ResidentLoader
from dltrain.engine.guard import HostGuard
from dltrain.engine.plan import Plan
from dltrain.engine.record import Recorder
from dltrain.engine.saver import Saver
from dltrain.engine.trainer import Trainer
from dltrain.engine.update import Update
from dltrain.schedulers.cosine import Cosine
from dltrain.tasks.classification import Classification


def make_loader(num_samples, batch_size, *, shuffle, seed=0):
    rng = np.random.default_rng(7)
    targets = np.arange(num_samples) % 6
    noise = rng.integers(0, 120, (num_samples, 1, 4, 4))
    inputs = (noise + targets[:, None, None, None] * 20).astype(np.uint8)
    return ResidentLoader(
        inputs, targets, batch_size=batch_size, mean=[0.4], std=[0.2], device="cpu",
        shuffle=shuffle, seed=seed,
    )  # fmt: skip


def make_model(*, norm=True, dropout=0.2):
    torch.manual_seed(3)
    layers = [nn.Flatten(), nn.Linear(16, 12)]
    layers += [nn.BatchNorm1d(12)] if norm else []
    return nn.Sequential(*layers, nn.ReLU(), nn.Dropout(dropout), nn.Linear(12, 6))


def make_run(
    folder, *, num_steps=22, accumulate=1, ema=True, norm=True, dropout=0.2, skip=False,
    log_every=4, eval_every=5, save_every=5, max_time_sec=math.inf, num_samples=60, lr=0.01,
):  # fmt: skip
    """A trainer on 60 samples in batches of 13: five steps an epoch, the last one short."""
    folder.mkdir(exist_ok=True)
    model = make_model(norm=norm, dropout=dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
    train_loader = make_loader(num_samples, 13, shuffle=True)
    metrics_log = runs.MetricsLog(folder / runs.METRICS)
    saver = Saver(
        folder / runs.CHECKPOINTS, keep=2, monitor="accuracy/val", mode="max", config_digest=""
    )
    trainer = Trainer(
        model=model,
        task=Classification(num_classes=6),
        update=Update(
            model,
            optimizer,
            schedule=Cosine(final_factor=0.0, warmup=0.1),
            guard=HostGuard(model, torch.device("cpu"), skip=skip),
        ),
        train_loader=train_loader,
        val_loader=make_loader(31, 10, shuffle=False),
        plan=Plan(num_steps, max_time_sec, log_every, eval_every, save_every, len(train_loader)),
        recorder=Recorder(metrics_log, {}),
        saver=saver,
        callbacks={"ema": EMA(decay=0.9, every=1, warmup=False)} if ema else {},
        accumulate=accumulate,
    )
    return SimpleNamespace(trainer=trainer, metrics_log=metrics_log, saver=saver, folder=folder)


def start(run):
    """What a command does before `fit`: goes to the newest checkpoint, if there is one."""
    checkpoint = run.saver.load_newest()
    torch.manual_seed(11)  # dropout must not depend on what came before
    run.trainer.prepare(checkpoint)
    state = checkpoint.state["recorder"] if checkpoint else {"offset": 0}
    run.metrics_log.open(state["offset"])
    return run


@pytest.fixture
def training():
    return SimpleNamespace(make_run=make_run, start=start, make_loader=make_loader)
