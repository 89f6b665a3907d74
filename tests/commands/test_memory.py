"""Out of memory: which setting to change, and that it helps."""

import json
import re

import pytest

# A network for which a device has room for so many samples at a time, and no more
NET = """
import torch
from torch import nn

ROOM = {"train": %d, "evaluate": %d}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.steps = 0

    def forward(self, inputs):
        if torch.is_grad_enabled():
            self.steps += 1
        if len(inputs) > ROOM["train" if self.training else "evaluate"] and self.steps:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a capacity of 8 GiB"
            )
        return self.layer(inputs.flatten(1))
"""
ARGUMENTS = (
    "train", "--allow-target", "small_net", "model._target_=small_net.Net", "~model.hidden_sizes",
    "~model.num_classes", "~model.input_shape", "~model.norm", "~model.dropout",
    "~model.activation", "trainer.max_epochs=2", "trainer.threads=1", "trainer.device=cpu",
    "hydra.run.dir=run", "loader.batch_size=64",
)  # fmt: skip


@pytest.fixture
def train(shell, tmp_path):
    """A function that trains the network with so much room; arguments replace others."""

    def run(*argv, room):
        (tmp_path / "small_net.py").write_text(NET % room)
        return shell(*argv, env={"PYTHONDONTWRITEBYTECODE": "1"})

    return run


def test_the_message_names_a_setting_that_helps(train, tmp_path):
    outcome = train(*ARGUMENTS, room=(32, 64))
    assert outcome.code == 1, outcome
    assert "Tried to allocate 2.00 GiB" in outcome.err
    assert "Traceback" not in outcome.err
    assert "loader.batch_size=32" in outcome.err
    setting = re.search(r"trainer\.accumulate=\d+", outcome.err)[0]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"
    assert "Traceback" in (tmp_path / "run" / "train.log").read_text()
    going_on = ("resume", "run", setting, "--allow-target", "small_net")
    assert train(*going_on, room=(32, 64)).code == 0


def test_evaluation_has_its_own_setting(train):
    outcome = train(*ARGUMENTS, room=(64, 32))
    assert outcome.code == 1, outcome
    assert "evaluating" in outcome.err
    assert "loader.eval_batch_size=32" in outcome.err
    going_on = ("resume", "run", "loader.eval_batch_size=32", "--allow-target", "small_net")
    assert train(*going_on, room=(64, 32)).code == 0


def test_a_model_that_no_memory_holds_is_refused_before_anything_is_written(dltrain, tmp_path):
    outcome = dltrain("train", "model.hidden_sizes=[1000000,1000000]")
    assert outcome.code == 2, outcome
    assert "do not fit into memory" in outcome.err
    assert len(outcome.err.splitlines()) <= 6
    assert list(tmp_path.iterdir()) == []
