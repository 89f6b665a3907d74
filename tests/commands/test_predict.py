"""`dltrain predict`: what validation would say of image files, for any number of them."""

import csv
import io
import json
import os
import shutil
import signal
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from photos import make_folder, write_photo

import dltrain as package
from dltrain.build_data import read_data
from dltrain.build_loaders import make_loader, placement
from dltrain.commands.predict import storing
from dltrain.durable import storage_error
from dltrain.predictions import paths_of, predict_files, writer

IMAGES = (
    "dataset=image_folder", "dataset.root=photos", "dataset.size=12", "model=cnn",
    "model.widths=[4,8]", "loader.batch_size=7", "loader.eval_batch_size=4", "trainer.max_steps=8",
    "trainer.threads=1", "callbacks=none", "loggers=none", "hydra.run.dir=run",
    "trainer.eval_every=4steps", "scheduler=constant",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on photos, which are gone; and some others."""
    folder = tmp_path_factory.mktemp("predict")
    make_folder(folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        package.train(IMAGES)
    (folder / "photos").rename(folder / "moved")
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").symlink_to(trained / "run")
    for number in range(6):
        size = 20 + 9 * number
        write_photo(tmp_path / "new" / f"{number}.jpg", size, 60 - 5 * number, seed=number + 50)
    return tmp_path


def rows_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def table(out):
    """path -> the likeliest class and its share, of lines on the screen."""
    found = {}
    for line in out.splitlines():
        path, first, *_ = line.split("  ")
        name, share = first.rsplit(" ", 1)
        found[path] = (name, share)
    return found


@pytest.mark.parametrize("decode", ["exact", "fast"])
def test_files_are_seen_as_validation_sees_them(decode, trained):
    """To the bit, whatever their size and kind."""
    run = package.load_run(trained / "run", device="cpu")
    run.config["dataset"] |= {"root": str(trained / "moved"), "decode": decode}
    data, device = read_data(run.config), torch.device("cpu")
    loader = make_loader(run.config, data, "val", device, placement(run.config, data, device))
    seen = list(loader.epoch(0))
    pictures = data.splits["val"].inputs
    files = [pictures.describe(number) for number in range(len(pictures))]
    inputs = torch.cat([batch.inputs for batch in seen])
    assert torch.equal(run.preprocess(files), inputs)
    assert run.preprocess(files).stride() == seen[0].inputs.stride()
    logits = torch.cat([run.task.predict(run.model, batch.inputs) for batch in seen]).detach()
    assert torch.equal(run.predict(files), logits.softmax(1)), "other batches, or other pixels"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_command_gives_what_python_gives_in_order(num_workers, here, dltrain):
    argv = ("new", "top=2", "output=o.jsonl", f"loader.num_workers={num_workers}")
    outcome = dltrain("predict", "run", *argv)
    assert outcome.code == 0, outcome.err
    assert outcome.out == "written to o.jsonl: 6 files\n"
    outcome = dltrain("predict", "run", "new", "top=2", "output=-")
    run = package.load_run("run", device="cpu")
    files = [f"new/{number}.jpg" for number in range(6)]
    expected = run.predict(files)
    rows = rows_of("o.jsonl")
    assert [row["path"] for row in rows] == files == list(table(outcome.out))
    for row, probabilities in zip(rows, expected, strict=True):
        values, places = probabilities.topk(2)
        assert [each["class"] for each in row["top"]] == [run.classes[i] for i in places]
        assert [each["probability"] for each in row["top"]] == values.tolist()
        shown = (row["class"], f"{row['probability']:.2%}")
        assert table(outcome.out)[row["path"]] == shown


def test_a_bad_file_is_named_and_the_rest_goes_on(here, dltrain):
    (here / "new" / "2.jpg").write_bytes(b"no image")
    (here / "new" / "cut.jpg").write_bytes((here / "new" / "1.jpg").read_bytes()[:300])
    os.mkfifo(here / "new" / "pipe.png")
    argv = ("nowhere.png", "new", "output=o.csv", "top=1")
    outcome = dltrain("predict", "run", *argv)
    assert outcome.code == 2
    named = [line.partition(":")[0] for line in outcome.err.splitlines()]
    bad = ["nowhere.png", "new/2.jpg", "new/cut.jpg", "new/pipe.png"]
    assert named == [*bad, "dltrain"]
    assert "4 of 9 files could not be read" in outcome.err
    assert outcome.out == "written to o.csv: 5 files\n"
    head, *rows = csv.reader((here / "o.csv").read_text().splitlines())
    assert head == ["path", "class", "probability", "error"]
    assert [row[0] for row in rows if row[3]] == bad
    assert all(0 < float(row[2]) <= 1 for row in rows if not row[3])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_a_list_comes_by_standard_input(end, here, dltrain, monkeypatch):
    names = ["new/3.jpg", "new/1.jpg", "new"]
    data = end.join(names).encode() + end.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    outcome = dltrain("predict", "run", "-", "new/5.jpg")
    assert outcome.code == 0, outcome.err
    expected = [*names[:2], *(f"new/{number}.jpg" for number in range(6)), "new/5.jpg"]
    assert [line.split("  ")[0] for line in outcome.out.splitlines()] == expected


def test_a_standard_input_that_is_closed_is_said(here, dltrain, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    outcome = dltrain("predict", "run", "-")
    assert outcome.code == 2
    assert "standard input is closed" in outcome.err


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_pipe_that_trickles_is_not_waited_for(num_workers, here):
    """Less than a batch is predicted where nothing more comes."""
    end, start = os.pipe()
    with open(end, "rb") as pipe:
        run = package.load_run("run", device="cpu")
        found = predict_files(run, paths_of([b"-"], lambda: pipe), top=1, num_workers=num_workers)
        with closing(found):
            for names in (["new/0.jpg"], ["new/1.jpg", "new/2.jpg"]):
                os.write(start, "".join(f"{name}\n" for name in names).encode())
                assert [next(found).path for _ in names] == names
            os.close(start)
            assert next(found, None) is None


def test_a_full_disk_is_named_with_its_file(here, dltrain):
    """/dev/full stands for it; the temporary file leads there."""
    run = package.load_run("run", device="cpu")
    prediction = next(predict_files(run, [b"new/0.jpg"], top=1, num_workers=0))
    with (
        pytest.raises(OSError, match="No space left") as caught,
        storing(Path("o.csv"), open("/dev/full", "w")) as file,
    ):
        writer(Path("o.csv"), file, 1)(prediction)
    assert caught.value.filename == "o.csv"
    assert "o.csv" in str(storage_error(caught.value))


def test_a_signal_ends_it_with_what_has_been_written(here, dltrain, monkeypatch):
    class List:
        buffer = property(lambda self: self)
        left = 1

        def read1(self, size):
            self.left -= 1
            if self.left < 0:
                signal.raise_signal(signal.SIGTERM)
            return b"new/0.jpg\n" * 8  # two batches

    monkeypatch.setattr(sys, "stdin", List())
    outcome = dltrain("predict", "run", "-", "output=o.jsonl", "loader.num_workers=0")
    assert outcome.code == 143
    assert [path.name for path in here.glob("*o.jsonl*")] == ["o.jsonl"]
    assert f"stopped after {len(rows_of('o.jsonl'))} files" in outcome.err


def test_odd_names_are_read_and_shown_harmlessly(here, dltrain, monkeypatch):
    good = (here / "new" / "0.jpg").read_bytes()
    names = [b"a=b.jpg", b"-x.jpg", b"two\nlines.jpg", b"caf\xe9.jpg", b"\x1b[2J.jpg", b"%s {}.jpg"]
    os.mkdir("odd")
    for name in names:
        with open(b"odd/" + name, "wb") as file:
            file.write(good)
    os.chdir("odd")
    (here / "odd" / "run").symlink_to(here / "run")
    argv = ["a=b.jpg", "--", "-x.jpg", *map(os.fsdecode, names[2:])]
    outcome = dltrain("predict", "run", "output=o.csv", *argv, cwd=here / "odd")
    assert outcome.code == 0, outcome.err
    screen = dltrain("predict", "run", *argv, cwd=here / "odd").out
    assert all(line.isprintable() for line in screen.splitlines())
    with open("o.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        _, *rows = csv.reader(file)
    assert [os.fsencode(row[0]) for row in rows] == [names[0], b"./-x.jpg", *names[2:]]


def test_a_run_on_features_says_what_to_do(here, dltrain):
    argv = ("dataset=circles", "trainer.max_epochs=1", "callbacks=none", "hydra.run.dir=rings")
    assert dltrain("train", *argv).code == 0
    outcome = dltrain("predict", "rings", "new")
    assert outcome.code == 2
    assert "load_run(RUN).predict(array)" in outcome.err


def test_a_file_that_is_there_is_not_lost_by_a_mistake(here, dltrain):
    (here / "o.csv").write_text("mine")
    outcome = dltrain("predict", "run", "new", "output=o.csv")
    assert outcome.code == 2
    assert "o.csv exists; overwrite=true replaces it" in outcome.err
    for argv in (("nwe",), ("new", "checkpoint=7")):
        assert dltrain("predict", "run", *argv, "output=o.csv", "overwrite=true").code in (2, 3)
    assert (here / "o.csv").read_text() == "mine"
    (here / "link.csv").symlink_to(here / "o.csv")
    outcome = dltrain("predict", "run", "new", "output=link.csv", "overwrite=true")
    assert outcome.code == 2
    assert (here / "o.csv").read_text() == "mine"
    assert dltrain("predict", "run", "new", "output=o.csv", "overwrite=true").code == 0
    assert (here / "o.csv").read_text().count("\n") == 7
    assert not list(here.glob(".*"))


def test_a_class_whose_name_is_no_text_is_written(here, dltrain):
    shutil.copytree((here / "run").resolve(), here / "other")
    record = json.loads((here / "other" / "run.json").read_text())
    names = [f"\ud83d{name}" for name in record["classes"]]
    (here / "other" / "run.json").write_text(json.dumps(record | {"classes": names}))
    assert dltrain("predict", "other", "new/0.jpg", "output=o.csv").code == 0
    assert (here / "o.csv").read_text().splitlines()[1].split(",")[1].startswith("?")


def test_no_cell_is_a_formula(here, dltrain):
    shutil.copytree(here / "run", here / "copy")
    record = json.loads((here / "copy" / "run.json").read_text())
    names = ["=cmd|' /C calc'!A0", "@x", "+1"]
    (here / "copy" / "run.json").write_text(json.dumps(record | {"classes": names}))
    shutil.copy("new/0.jpg", "=a.jpg")
    assert dltrain("predict", "copy", "=a.jpg", "output=o.csv").code == 0
    _, row = csv.reader((here / "o.csv").read_text().splitlines())
    assert Path(row[0]).samefile("=a.jpg")
    assert sorted(row[1::2][:3]) == sorted(f"'{name}" for name in names)
    assert not any(cell[:1] in "=+-@" for cell in row if cell)


MISTAKES = {
    (): "predict needs image files, folders, or `-`",
    ("new", "output=o.txt"): "its name must end with .csv or .jsonl",
    ("new", "output=nowhere/o.csv"): "there is no folder nowhere",
    ("new", "top=0"): "it must be a whole number from 1 to 1000",
    ("new", "--top", "3"): "there is no flag --top",
    ("new", "checkpiont=best"): "did you mean `checkpoint`?",
    ("new", "optimizer.lr=1"): "`optimizer.lr` cannot be changed here",
    ("-", "-"): "standard input can be read once",
    ("new", "loader.eval_batch_size=0"): "it must be >= 1",
}


@pytest.mark.parametrize("argv", MISTAKES, ids=" ".join)
def test_a_mistake_costs_a_second(argv, here, without_torch):
    outcome = without_torch("predict", "run", *argv)
    assert outcome.code == 2
    assert MISTAKES[argv] in outcome.err
    assert not outcome.torch


def test_a_folder_without_images_is_said(here, dltrain):
    (here / "empty").mkdir()
    outcome = dltrain("predict", "run", "empty")
    assert outcome.code == 2
    assert "there is no image file" in outcome.err


def test_an_empty_list_is_said(here, dltrain, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    outcome = dltrain("predict", "run", "-")
    assert outcome.code == 2
    assert "standard input is empty" in outcome.err


def test_help(without_torch):
    assert "usage: dltrain predict RUN PATH..." in without_torch("predict", "--help").out
