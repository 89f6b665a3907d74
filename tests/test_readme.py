"""What the README says can be typed, can be typed."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import numpy
import pytest
import yaml
from photos import write_photo

from dltrain.build_data import check_splits
from dltrain.cli import COMMANDS

sys.path.insert(0, str(Path(__file__).parent / "data"))
data_files = importlib.import_module("data_files")
sys.path.pop(0)

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MY_NET = """
from torch import nn

class MyNet(nn.Module):
    def __init__(self, *, num_classes, width):
        super().__init__()
        self.stem = nn.Flatten()
        self.stages = nn.Sequential(nn.LazyLinear(width), nn.ReLU())
        self.head = nn.Linear(width, num_classes)
        self(__import__("torch").zeros(1, 1, 8, 8))

    def forward(self, x):
        return self.head(self.stages(self.stem(x)))
"""
BRIEF = [
    "trainer.max_steps=4",
    "trainer.eval_every=2 steps",
    "trainer.threads=1",
    "loader.limit_batches=5",
]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands():
    """The dltrain commands of all bash blocks, comments and what stands before && left out."""
    found = []
    for line in "\n".join(blocks("bash")).splitlines():
        words = shlex.split(line, comments=True)
        if "dltrain" in words:
            found.append(words[words.index("dltrain") + 1 :])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what the README takes for granted: data sets, and the files it shows."""
    folder = tmp_path_factory.mktemp("readme")
    data_files.write_mnist(folder / "data" / "MNIST" / "raw", num_train=5100, num_test=80)
    data_files.write_cifar10(
        folder / "data" / "cifar-10-batches-py", layout="python3", per_batch=1100
    )
    write_photo(folder / "photos" / "photo.png", 20, 30)
    (folder / "my_net.py").write_text(MY_NET)
    text = next(block for block in blocks("yaml") if "my_net.MyNet" in block)
    (folder / "my_configs" / "model").mkdir(parents=True)
    (folder / "my_configs" / "model" / "my_net.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_runs(words, dltrain, folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    brief = BRIEF if words[0] == "train" else []
    if {"resume", "evaluate", "predict"} & set(words):  # whatever ran last
        assert dltrain("train", *BRIEF, cwd=folder).code == 0
    outcome = dltrain(*words, *brief, cwd=folder)
    assert outcome.code == 0, outcome.err


def test_the_python_that_it_shows_works():
    from dltrain.engine.callback import Callback

    names = {"Callback": Callback, "numpy": numpy}
    for block in blocks("python"):
        if "load_run" not in block:
            exec(block, names)  # our own README
    assert names["HalfWay"](factor=0.1)(0.75) == 0.1
    stripes = names["Stripes"](num_classes=2, image_shape=[1, 8, 8], mean=[0.5], std=[0.5])
    splits = check_splits(stripes.load(), "Stripes")
    assert splits["val"].inputs.shape == (200, 1, 8, 8)
    assert len(splits["test"].targets) == 0
    stopped = []
    trainer = type("Trainer", (), {"stop": lambda self, reason: stopped.append(reason)})()
    names["StopAtPerfection"]().on_evaluate(trainer, "val", {"accuracy": 1.0})
    assert stopped == ["nothing left to learn"]


def test_the_notebook_that_it_shows_works(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (block,) = (block for block in blocks("python") if "load_run" in block)
    names = {}
    exec(block.replace("max_epochs=10", "max_epochs=1").replace("photo.", "photos/photo."), names)
    assert names["run"].predict("photos/photo.png").shape == (1, 10)
    assert names["load_run"]("latest").path == names["run"].path


def test_the_defaults_in_its_table_are_the_configs(dltrain, tmp_path):
    config = yaml.safe_load(dltrain("train", "--cfg", "job").out)
    assert f"`{config['trainer']['budget']}`" in README
    assert f"| `loader.batch_size` | `{config['loader']['batch_size']}` |" in README
    every = f"`{config['trainer']['log_every']}`, `{config['trainer']['eval_every']}`"
    assert every in README


def test_a_key_has_one_row_in_its_table():
    keys = re.findall(r"^\| (`[^|]+`) \|", README, re.M)
    assert len(keys) > 15
    assert len(keys) == len(set(keys))


def test_its_tree_has_every_room_once():
    """And nothing that is not there: what a merge leaves behind is a line twice."""
    (tree,) = (block for block in blocks("text") if block.startswith("configs/ "))
    lines = [line for line in tree.splitlines() if re.match(" {2}[a-z]", line)]
    heads = [
        word.rstrip("/") for line in lines for word in re.split(" {2,}", line.strip())[0].split()
    ]
    assert len(heads) == len(set(heads))
    package = ROOT / "src" / "dltrain"
    rooms = {path.name for path in package.iterdir() if path.name[0] not in "_."}
    named = set(re.findall(r"[a-z_]+\.py|[a-z_]+(?=/)", tree))
    assert rooms - named == set()
    assert {head for head in heads if not (package / head).exists()} == set()


def test_every_file_and_command_it_names_exists():
    for path in re.findall(r"\]\(((?!https?:)[^)#]+)\)", README):
        assert (ROOT / path).exists(), path
    for command in re.findall(r"`dltrain (\w+)", README):
        assert command in COMMANDS, command
