"""`dltrain prepare`: what it leaves, what it refuses, and that training sees no difference."""

import json
import os
import signal

import pytest
import yaml
from photos import make_folder, write_damaged
from test_image_runs import losses, typed

from dltrain.claim import Claim

SOURCE = ("dataset=image_folder", "dataset.root=photos", "dataset.size=12")
# A dataset of image files whose third image sends its reader a signal
MY_DATA = """
import os, signal
from dltrain.data.image_folder import ImageFolder

class Shelf:
    def __init__(self, shelf, number):
        self.shelf, self.number = shelf, number
        self.name, self.version, self.describe = shelf.name, shelf.version, shelf.describe

    def content(self, index):
        if index == 3 and self.number:
            os.kill(os.getpid(), self.number)
        return self.shelf.content(index)

class Stopping(ImageFolder):
    def __init__(self, *, number, **facts):
        super().__init__(**facts)
        self.number = number

    def load(self, progress=None):
        splits = super().load(progress)
        shelf = splits["train"].inputs
        shelf.shelf = Shelf(shelf.shelf, self.number)
        return splits
"""


@pytest.fixture
def photos(tmp_path):
    return make_folder(tmp_path / "photos", num_train=70)


@pytest.fixture
def prepare(dltrain, photos):
    def run(*arguments):
        argv = (*SOURCE, "prepare.out=set", "prepare.num_workers=1", *arguments)
        return dltrain("prepare", *{each.partition("=")[0]: each for each in argv}.values())

    return run


@pytest.mark.parametrize("augmentation", ["imagenet", "none"], ids=["streamed", "held"])
def test_training_on_a_packed_set_is_training_on_its_folder(
    augmentation, prepare, dltrain, tmp_path
):
    packed = prepare("dataset.mean=[0.4,0.5,0.6]")
    assert packed.code == 0, packed.err
    assert "packed     70 train / 10 val / 0 test" in packed.out
    both = (f"augmentation={augmentation}", "trainer.max_steps=2", "trainer.eval_every=1step")
    folder = ("dataset.mean=[0.4,0.5,0.6]", "loader.num_workers=0")
    one = dltrain("train", *typed(*both, *folder, "hydra.run.dir=one"))
    assert one.code == 0, one.err
    packed = ("dataset=packed", "dataset.root=set", "loader.num_workers=2")
    two = dltrain("train", *typed(*both, *packed, "hydra.run.dir=two"))
    assert two.code == 0, two.err
    assert losses(tmp_path / "one") == losses(tmp_path / "two")
    weights = [tmp_path / each / "model.safetensors" for each in ("one", "two")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert "num_classes: 3" in (tmp_path / "two" / "config.yaml").read_text()


def test_what_is_typed_is_not_replaced_by_what_the_set_says(prepare, dltrain, tmp_path):
    assert prepare().code == 0
    argv = ("dataset=packed", "dataset.root=set", "dataset.mean=[0.1,0.2,0.3]")
    outcome = dltrain("train", *typed(*argv, "trainer.max_steps=1", "hydra.run.dir=run"))
    assert outcome.code == 0, outcome.err
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["dataset"]
    assert config["mean"] == [0.1, 0.2, 0.3]
    assert (config["std"], config["num_classes"]) == ([0.229, 0.224, 0.225], 3)


def test_pixels_are_packed_and_trained_on(prepare, dltrain, tmp_path):
    outcome = prepare("prepare.store=uint8", "prepare.side=16")
    assert outcome.code == 0, outcome.err
    argv = ("dataset=packed", "dataset.root=set", "dataset.verify=true", "augmentation=imagenet")
    outcome = dltrain("train", *typed(*argv, "trainer.max_steps=2", "hydra.run.dir=run"))
    assert outcome.code == 0, outcome.err


def test_a_finished_set_is_verified_and_left_alone(prepare, tmp_path):
    assert prepare().code == 0
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()}
    again = prepare()
    assert again.code == 0
    assert "set is complete" in again.out
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()} == times
    shard = tmp_path / "set" / "train-00000.bin"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    damaged = prepare()
    assert damaged.code == 2
    assert "train-00000.bin: its SHA-256 is not that of the manifest" in damaged.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("prepare.store=jpeg",), "prepare.store is 'jpeg'; it must be one of files, uint8"),
        (("prepare.side=0",), "prepare.side is 0; it must be >= 1"),
        (("prepare.shard_mib=0",), "prepare.shard_mib is 0; it must be >= 1"),
        (("prepare.num_workers=-1",), "prepare.num_workers is -1; it must be auto or a number"),
        (("prepare.sde=3",), "did you mean `prepare.side`"),
        (("model=cnn",), "model"),
        (("prepare.out=",), "prepare.out is empty; it must be the path of a folder"),
        (("prepare.out=photos/packed",), "which lies in dataset.root"),
        (("prepare.out=full",), "holds something else"),
        (("prepare.out=file",), "prepare.out file cannot be used: it is a file"),
        (("dataset.size=0",), "dataset.size is 0"),
        (("--cfg",), "there is no flag --cfg"),
        (("dataset.root=nowhere",), "there is nothing; expected a folder of images"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(arguments, said, prepare, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    outcome = prepare(*arguments)
    assert outcome.code == 2
    assert said in outcome.err
    assert len(outcome.err.splitlines()) <= 6
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_folder_to_write_to_it_says_so(dltrain, photos):
    outcome = dltrain("prepare", *SOURCE)
    assert outcome.code == 2
    assert "prepare.out is missing: give it as `prepare.out=...`" in outcome.err


def test_a_dataset_of_arrays_needs_no_packing(dltrain, tmp_path):
    outcome = dltrain("prepare", "dataset=digits", "prepare.out=set")
    assert outcome.code == 2
    assert "gives arrays, which are in memory and need no packing" in outcome.err
    assert not (tmp_path / "set").exists()


def test_two_do_not_write_one_set(prepare, tmp_path):
    (tmp_path / "set").mkdir()
    with Claim(tmp_path / "set"):
        outcome = prepare()
    assert outcome.code == 2
    assert "set is in use by another dltrain process" in outcome.err


def test_an_image_that_cannot_be_decoded_is_named_or_left_out(prepare, photos):
    write_damaged(photos / "train" / "class 0" / "bad.png")
    outcome = prepare("prepare.store=uint8")
    assert outcome.code == 2
    assert "photos/train/class 0/bad.png cannot be read" in outcome.err
    assert "dataset.on_bad_image=skip" in outcome.err
    outcome = prepare("prepare.store=uint8", "dataset.on_bad_image=skip", "prepare.out=other")
    assert outcome.code == 0, outcome.err
    assert "packed     70 train" in outcome.out
    assert "1 image left out" in outcome.out


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)]
)
def test_a_signal_ends_it_with_the_command_that_goes_on(
    number, code, dltrain, photos, tmp_path, monkeypatch
):
    (tmp_path / "stopping_data.py").write_text(MY_DATA)
    monkeypatch.syspath_prepend(str(tmp_path))
    argv = [
        *SOURCE, "dataset._target_=stopping_data.Stopping", f"+dataset.number={int(number)}",
        "--allow-target", "stopping_data", "prepare.num_workers=0", "prepare.out=a set",
    ]  # fmt: skip
    outcome = dltrain("prepare", *argv)
    assert outcome.code == code, outcome.err
    assert f"stopped by {number.name}" in outcome.out
    assert "prepare dataset=image_folder" in outcome.out
    assert "'prepare.out=a set'" in outcome.out
    assert os.listdir(tmp_path / "a set") == ["PROGRESS.json"]
    argv[argv.index(f"+dataset.number={int(number)}")] = "+dataset.number=0"
    outcome = dltrain("prepare", *argv)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "a set" / "MANIFEST.json").exists()


def test_no_path_of_this_machine_is_in_a_set(prepare, tmp_path):
    assert prepare(f"dataset.root={tmp_path / 'photos'}").code == 0
    for path in (tmp_path / "set").glob("*"):
        if path.suffix != ".bin":
            assert os.fsencode(tmp_path) not in path.read_bytes()
    assert json.loads((tmp_path / "set" / "MANIFEST.json").read_text())["version"] == 1


def test_help_says_every_key(dltrain):
    outcome = dltrain("prepare", "--help")
    assert outcome.code == 0
    for key in ("out", "store", "side", "shard_mib", "num_workers"):
        assert f"prepare.{key}" in outcome.out
