"""What `dltrain evaluate` leaves in a run's directory."""

import csv
import fcntl
import json
import os
import shutil
import sys

import pytest
import torch

from dltrain import evaluation
from dltrain.claim import locked, writing_to


@pytest.fixture
def run_dir(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


def test_the_tables_hold_the_same_counts(run_dir, dltrain):
    outcome = dltrain("evaluate", "run")
    folder = run_dir / "evaluation" / "test_final"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.csv", "confusion.png", "metrics.json", "per_class.csv", "reliability.png",
    ]  # fmt: skip
    head, *rows = csv.reader((folder / "confusion.csv").read_text().splitlines())
    confusion = torch.tensor([[int(cell) for cell in row[1:]] for row in rows])
    assert head[1:] == [row[0] for row in rows] == list("0123456789")
    _, *classes = csv.reader((folder / "per_class.csv").read_text().splitlines())
    for number, (name, _, recall, _, support) in enumerate(classes):
        assert name == str(number)
        assert int(support) == confusion[number].sum()
        assert float(recall) == pytest.approx(float(confusion[number, number]) / int(support))
    accuracy = confusion.diag().sum().item() / 360
    assert metrics["metrics"]["accuracy"] == accuracy
    mistakes = confusion - confusion.diag().diag()
    assert f": {int(mistakes.max())}\n" in outcome.out
    assert sum(bin_["samples"] for bin_ in metrics["calibration"]) == 360


def test_no_cell_is_a_formula(run_dir, dltrain):
    record = json.loads((run_dir / "run.json").read_text())
    classes = ["=1+1", "+1", "-1", "@x", "\t=1", *"56789"]
    (run_dir / "run.json").write_text(json.dumps(record | {"classes": classes}))
    assert dltrain("evaluate", "run").code == 0
    for name in ("per_class.csv", "confusion.csv"):
        with open(run_dir / "evaluation" / "test_final" / name, newline="") as file:
            head, *rows = csv.reader(file)
        assert [row[0] for row in rows] == [*(f"'{name}" for name in classes[:5]), *"56789"]
        assert name == "per_class.csv" or head[1:] == [row[0] for row in rows]


def test_pictures_need_matplotlib_and_nothing_else_does(run_dir, dltrain, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    outcome = dltrain("evaluate", "run")
    assert outcome.code == 0, outcome.err
    assert "pip install 'dltrain[plot]'" in outcome.out
    names = sorted(path.name for path in (run_dir / "evaluation" / "test_final").iterdir())
    assert names == ["confusion.csv", "metrics.json", "per_class.csv"]


def test_a_disk_that_is_full_leaves_no_half(run_dir, dltrain, monkeypatch):
    def full(path, parts):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(evaluation, "write_parts", full)
    outcome = dltrain("evaluate", "run")
    assert outcome.code == 5
    assert "No space left on device" in outcome.err
    assert "accuracy" in outcome.out  # hours of evaluation are not lost with it
    assert not list((run_dir / "evaluation").iterdir())


def test_what_fails_leaves_the_evaluation_that_was_there(run_dir, dltrain, monkeypatch):
    assert dltrain("evaluate", "run").code == 0
    folder = run_dir / "evaluation" / "test_final"
    before = (folder / "metrics.json").read_bytes()
    rename = os.rename

    def fails(source, target):
        if source.name.endswith(".tmp") and not source.name.endswith(".old.tmp"):
            raise OSError(5, "Input/output error", str(target))
        rename(source, target)

    monkeypatch.setattr(evaluation.os, "rename", fails)
    assert dltrain("evaluate", "run").code != 0
    assert [path.name for path in (run_dir / "evaluation").iterdir()] == ["test_final"]
    assert (folder / "metrics.json").read_bytes() == before


def test_what_a_killed_process_has_left_is_cleared(run_dir, dltrain, tmp_path):
    (tmp_path / "precious").write_text("precious")
    for home in (run_dir / "evaluation", run_dir / "export"):
        (home / ".test_final.7.tmp").mkdir(parents=True)
        (home / ".model.pt2.7.tmp").write_text("half")
        (home / ".link.tmp").symlink_to(tmp_path / "precious")
        (home / ".val_final.old.tmp").mkdir()  # its successor had not got the name yet
        (home / ".mine").write_text("mine")
    assert dltrain("evaluate", "run").code == 0
    names = {path.name for path in (run_dir / "evaluation").iterdir()}
    assert names == {"test_final", "val_final", ".mine"}
    assert dltrain("export", "run", "format=safetensors", "data=false").code == 0
    names = {path.name for path in (run_dir / "export").iterdir()}
    assert names == {"model.safetensors", "val_final", ".mine"}
    assert (tmp_path / "precious").read_text() == "precious"


def test_nobody_clears_what_another_is_writing(tmp_path):
    folder = tmp_path / "export"
    with writing_to(folder, shared=True):
        (folder / ".model.onnx.7.tmp").write_text("half")
        with writing_to(folder, shared=True):
            assert [path.name for path in folder.iterdir()] == [".model.onnx.7.tmp"]
    with writing_to(folder, shared=True):
        assert not list(folder.iterdir())


def test_one_evaluation_after_another_is_written(tmp_path):
    with writing_to(tmp_path / "evaluation"):
        descriptor = os.open(tmp_path / "evaluation", os.O_RDONLY)
        assert not locked(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.close(descriptor)
