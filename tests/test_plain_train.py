"""The engine adds nothing to the numbers: sixty lines of plain PyTorch end the same."""

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dltrain import cli

SCRIPT = Path(__file__).parents[1] / "scripts" / "plain_train.py"


def test_the_engine_and_the_plain_script_end_with_the_same_bits(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("plain_train", SCRIPT)
    plain_train = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain_train)
    threads = torch.get_num_threads()
    model = plain_train.main(seed=3, epochs=4)
    arguments = ["seed=3", "trainer.max_epochs=4", "checkpoint.final=last", "hydra.run.dir=run"]
    assert cli.run(["train", *arguments, f"trainer.threads={threads}"]) == 0
    ours = load_file("run/model.safetensors")
    theirs = model.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name
    # The printed accuracy is that of the run, too
    assert capsys.readouterr().out.count("accuracy/test") == 1


def test_the_script_is_about_sixty_lines():
    lines = SCRIPT.read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.strip().startswith(("#", '"'))]
    assert len(code) <= 66, "it is there to be read at one glance"


@pytest.mark.parametrize("name", ["EPOCHS", "BATCH_SIZE", "LR", "WEIGHT_DECAY"])
def test_the_script_has_the_defaults_of_the_config(name):
    from dltrain.config.check import check
    from dltrain.config.compose import compose, job_config

    config = check(job_config(compose([])))
    values = {
        "EPOCHS": int(config["trainer"]["budget"].split()[0]),
        "BATCH_SIZE": config["loader"]["batch_size"],
        "LR": config["optimizer"]["lr"],
        "WEIGHT_DECAY": config["optimizer"]["weight_decay"],
    }
    line = next(li for li in SCRIPT.read_text().splitlines() if li.startswith("EPOCHS,"))
    names, numbers = (side.split(",") for side in line.split("="))
    assert dict(zip(map(str.strip, names), map(float, numbers), strict=True))[name] == values[name]
