"""Runs on folders of image files: the same numbers for any reader, and after any stop."""

import json

import pytest
from photos import make_folder, write_damaged, write_photo
from PIL import Image

ARGUMENTS = (
    "dataset=image_folder", "dataset.root=photos", "dataset.size=12", "model=cnn",
    "model.widths=[4,8]", "model.dropout=0.2", "scheduler=constant", "loader.batch_size=7",
    "trainer.max_steps=50", "trainer.log_every=1step", "trainer.eval_every=20steps",
    "checkpoint.every=10steps", "trainer.threads=1", "trainer.device=cpu", "callbacks=none",
    "loggers=none",
)  # fmt: skip
STREAMED = ("augmentation=imagenet",)
HELD = ("augmentation=crop_flip", "augmentation.crop.padding=2")


def typed(*arguments):
    """ARGUMENTS and more, of which the last of each key holds."""
    return {each.partition("=")[0]: each for each in (*ARGUMENTS, *arguments)}.values()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("image_runs") / "photos")


@pytest.fixture
def train(photos, dltrain, tmp_path):
    """A function: trains in a directory of its own below tmp_path and gives that."""
    (tmp_path / "photos").symlink_to(photos)

    def run(name, *arguments):
        outcome = dltrain("train", *typed(f"hydra.run.dir={name}", *arguments))
        assert outcome.code == 0, outcome.err
        return tmp_path / name

    return run


def losses(run_dir):
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["split"], row["loss"], row["accuracy"]) for row in rows]


@pytest.mark.parametrize("augmentation", [STREAMED, HELD], ids=["streamed", "held"])
def test_fifty_steps_are_the_same_for_any_reader_and_after_a_stop(augmentation, train, dltrain):
    reference = train("alone", *augmentation, "loader.num_workers=0")
    others = [train("two", *augmentation, "loader.num_workers=2", "loader.placement=stream")]
    stopped = train("one", *augmentation, "loader.num_workers=1", "trainer.max_steps=23")
    again = dltrain("resume", "one", "trainer.max_steps=50", "loader.num_workers=2")
    assert again.code == 0, again.err
    assert len([each for each in losses(reference) if each[1] == "train"]) == 50
    for run_dir in [*others, stopped]:
        expected = [each for each in losses(reference) if each[1] == "train"]
        assert [each for each in losses(run_dir) if each[1] == "train"] == expected
        name = "checkpoints/step-00000050/model.safetensors"
        assert (run_dir / name).read_bytes() == (reference / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (STREAMED, "read by 1 worker as needed: augmentation.crop takes a part of each file"),
        (HELD, "decoded once and held in memory, 0.0 MiB"),
        ((*HELD, "loader.placement=stream"), "read by 1 worker as needed (loader.placement=stream"),
        (
            (*STREAMED, "loader.num_workers=0", "loader.placement=stream"),
            "read by this process as needed (loader.placement=stream)",
        ),
    ],
)
def test_where_the_data_lies_is_said_with_the_reason(arguments, said, photos, dltrain):
    argv = (f"dataset.root={photos}", "loader.num_workers=1", "trainer.max_steps=2", *arguments)
    outcome = dltrain("train", *typed("hydra.run.dir=run", *argv))
    assert outcome.code == 0, outcome.err
    line = next(line for line in outcome.out.splitlines() if line.startswith("data "))
    assert said in line


def test_what_was_converted_is_said(dltrain, tmp_path):
    for number in range(9):
        path = write_photo(tmp_path / "photos" / "train" / f"c{number % 2}" / f"{number}.png", 9, 9)
        Image.open(path).convert("L" if number < 3 else "RGB").save(path)
    outcome = dltrain("train", *typed("trainer.max_steps=1", "loader.batch_size=3"))
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("dataset"))
    assert lines[place + 1].strip() == "3 grayscale"


def test_an_image_whose_pixels_cannot_be_read_ends_the_run_by_its_name(dltrain, tmp_path):
    make_folder(tmp_path / "photos", num_train=14)
    write_damaged(tmp_path / "photos" / "train" / "class 0" / "broken.png")
    outcome = dltrain("train", *typed(*STREAMED, "hydra.run.dir=run"))
    assert outcome.code == 2
    assert "class 0/broken.png cannot be read" in outcome.err
    assert len(outcome.err.splitlines()) <= 6


def test_the_number_of_classes_reaches_the_model_from_the_folder(train):
    run_dir = train("run", *STREAMED, "trainer.max_steps=7")
    config = (run_dir / "config.yaml").read_text()
    assert config.count("num_classes: 3") == 3


def test_a_placement_that_cannot_be_is_refused(photos, dltrain, tmp_path):
    argv = typed(f"dataset.root={photos}", *STREAMED, "loader.placement=device")
    outcome = dltrain("train", *argv, "hydra.run.dir=run")
    assert outcome.code == 2
    assert "loader.placement is device, but augmentation.crop takes another part" in outcome.err
    assert not (tmp_path / "run").exists()
