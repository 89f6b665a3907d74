"""`dltrain export`: a file that other tools read, of the weights that were asked for, or none."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from safetensors import safe_open

from dltrain import load_run, runs
from dltrain.exported import OPSET

sys.path.append(str(Path(__file__).parents[1] / "data"))  # importlib mode leaves that to us
import data_files

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
lacking = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(
    bool(lacking), reason=f"{', '.join(lacking)} not installed: pip install 'dltrain[onnx]'"
)
READER = """
import json, sys
sys.modules["dltrain"] = None  # whoever imports it, fails
import torch
files = {"dltrain.json": ""}
program = torch.export.load(sys.argv[1], extra_files=files)
inputs = torch.tensor(json.loads(sys.argv[2]))
print(json.dumps([json.loads(files["dltrain.json"])["classes"],
                  program.module()(inputs).softmax(1).tolist()]))
"""


@pytest.fixture
def run_dir(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "r")


@pytest.mark.parametrize(("format", "ending"), [("safetensors", "safetensors"), ("torch", "pt2")])
def test_a_file_in_the_runs_directory(format, ending, run_dir, dltrain):
    outcome = dltrain("export", "r", f"format={format}")
    assert outcome.code == 0, outcome.err
    assert f"written to r/export/model.{ending}\n" in outcome.out
    assert "compared   26 samples: no probability differs by more than" in outcome.out
    assert [path.name for path in (run_dir / "export").iterdir()] == [f"model.{ending}"]


def test_a_checkpoint_has_its_step_in_the_name(run_dir, dltrain):
    outcome = dltrain("export", "r", "format=safetensors", "checkpoint=last", "data=false")
    assert outcome.code == 0, outcome.err
    assert (run_dir / "export" / "model_step-00000040.safetensors").is_file()
    assert "compared   10 samples" in outcome.out


def test_a_file_is_replaced_only_where_that_was_typed(run_dir, dltrain, tmp_path):
    (tmp_path / "m.safetensors").write_text("mine")
    words = ("export", "r", "format=safetensors", "data=false", "output=m.safetensors")
    outcome = dltrain(*words)
    assert outcome.code == 2
    assert "m.safetensors exists; overwrite=true replaces it" in outcome.err
    assert (tmp_path / "m.safetensors").read_text() == "mine"
    assert dltrain(*words, "overwrite=true").code == 0
    assert (tmp_path / "m.safetensors").read_bytes()[8:9] == b"{"


def test_weights_that_were_handed_on_are_weights_to_start_from(run_dir, dltrain, tmp_path):
    words = ("export", "r", "format=safetensors", "data=false", "output=m.safetensors")
    assert dltrain(*words).code == 0
    short = ("trainer.max_steps=1", "trainer.threads=1", "model.hidden_sizes=[16]")
    outcome = dltrain("train", *short, "init_from=m.safetensors", "optimizer.lr=1e-12")
    assert outcome.code == 0, outcome.err


def test_a_run_that_was_moved_without_its_data_is_exported(dltrain, tmp_path):
    """Its dataset is not there; random inputs are."""
    data_files.write_mnist(tmp_path / "d" / "MNIST" / "raw", num_train=80, num_test=20)
    brief = ("trainer.max_steps=2", "trainer.threads=1", "loader.batch_size=20", "loggers=none")
    words = ("dataset=mnist", "dataset.root=d", "dataset.num_val=20", "model=linear")
    assert dltrain("train", *words, *brief, "hydra.run.dir=r").code == 0
    shutil.rmtree(tmp_path / "d")
    (tmp_path / "r").rename(tmp_path / "moved")
    outcome = dltrain("export", "moved", "format=torch")
    assert outcome.code == 0, outcome.err
    assert "data       not at hand (" in outcome.out
    assert "compared   10 samples" in outcome.out


def test_a_graph_is_of_fp32_whatever_the_run_was_trained_in(dltrain, tmp_path):
    short = ("trainer.max_steps=2", "trainer.threads=auto", "loggers=none", "hydra.run.dir=r")
    assert dltrain("train", *short, "trainer.precision=bf16").code == 0
    outcome = dltrain("export", "r", "format=torch", "tolerance=0")
    assert outcome.code == 0, outcome.err
    outcome = dltrain("export", "r", "format=safetensors", "output=m.safetensors")
    assert outcome.code == 0, outcome.err
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        config = json.loads(file.metadata()["config"])
    assert config == runs.read_config(tmp_path / "r"), "the config is the run's own"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["r"], "format is missing; it must be one of safetensors, torch, onnx"),
        (["r", "format=onxx"], "format is onxx; did you mean `onnx`?"),
        (["r", "format=torch", "output=m.onnx"], "with format=torch it must end with .pt2"),
        (["r", "format=torch", "output=no/m.pt2"], "there is no folder no"),
        (["r", "format=safetensors", "preprocess=true"], "preprocess=true is for graphs"),
        (["r", "format=torch", "preprocess=3"], "preprocess is 3; it must be true or false"),
        (["r", "format=torch", "overwrite=yes"], "overwrite is yes; it must be true or false"),
        (["r", "format=torch", "tolerance=-1"], "tolerance is -1; it must be a number >= 0"),
        (["r", "format=torch", "tolerance=x"], "tolerance is x; it must be a number >= 0"),
        (["r", "format=torch", "ema=1"], "ema is 1; it must be auto, true or false"),
        (["r", "format=torch", "seed=1"], "`seed` cannot be changed here"),
        (["r", "format=torch", "-f"], "there is no flag -f"),
        (["gone", "format=torch"], "there is no directory `gone`"),
    ],
)
def test_mistakes_cost_no_torch(words, said, run_dir, without_torch):
    outcome = without_torch("export", *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert not outcome.torch


def test_without_a_run_the_help_is_printed(without_torch):
    assert without_torch("export").out.startswith("usage: dltrain export RUN format=")


@pytest.mark.skipif(not lacking, reason="ONNX is installed")
def test_a_missing_extra_is_named(run_dir, without_torch):
    outcome = without_torch("export", "r", "format=onnx")
    assert outcome.code == 2
    assert "pip install 'dltrain[onnx]'" in outcome.err
    assert not outcome.torch


def test_a_demanded_checkpoint_that_is_not_there_is_exit_3(run_dir, dltrain):
    before = sorted(run_dir.rglob("*"))
    outcome = dltrain("export", "r", "format=torch", "checkpoint=7", "data=false")
    assert outcome.code == 3
    assert "7" in outcome.err
    assert sorted(run_dir.rglob("*")) == before, "nothing is left behind"


def test_a_link_in_the_place_of_the_file_is_not_followed(run_dir, dltrain, tmp_path):
    (tmp_path / "precious.txt").write_text("precious")
    (run_dir / "export").mkdir()
    (run_dir / "export" / "model.safetensors").symlink_to(tmp_path / "precious.txt")
    words = ("export", "r", "format=safetensors", "data=false")
    for more in ((), ("overwrite=true",)):
        assert dltrain(*words, *more).code == 2
    assert (tmp_path / "precious.txt").read_text() == "precious"


# ---------------------------------------------------------------------- in other programs


def test_a_graph_is_loaded_without_a_module_of_dltrain(run_dir, dltrain, tmp_path, monkeypatch):
    """The slow test below is the same in a process of its own."""
    assert dltrain("export", "r", "format=torch", "output=m.pt2", "data=false").code == 0
    run = load_run(run_dir, device="cpu")
    images = numpy.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), numpy.uint8)
    inputs, expected, files = run.preprocess(images), run.predict(images), {"dltrain.json": ""}
    for name in [name for name in sys.modules if name.partition(".")[0] == "dltrain"]:
        monkeypatch.setitem(sys.modules, name, None)  # whoever imports it, fails
    program = torch.export.load(tmp_path / "m.pt2", extra_files=files)
    found = program.module()(inputs).softmax(1)
    assert json.loads(files["dltrain.json"])["classes"] == list("0123456789")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5, check_stride=False)


@pytest.mark.slow
def test_a_process_without_dltrain_gets_the_same_probabilities(run_dir, dltrain, tmp_path):
    assert dltrain("export", "r", "format=torch", "output=m.pt2").code == 0
    run = load_run(run_dir, device="cpu")
    images = numpy.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), numpy.uint8)
    inputs = json.dumps(run.preprocess(images).tolist())
    command = [sys.executable, "-c", READER, str(tmp_path / "m.pt2"), inputs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    classes, found = json.loads(done.stdout)
    assert classes == run.classes
    torch.testing.assert_close(torch.tensor(found), run.predict(images), rtol=0, atol=1e-5)


MODELS = {
    "mlp": ["model.hidden_sizes=[16]"],
    "linear": ["model=linear"],
    "cnn": ["model=cnn"],
    "resnet20": ["model=resnet20"],
    "flipped": ["model=linear", "task.views=flip_shift"],
    "ema": ["model.hidden_sizes=[16]", "callbacks=[default,ema]"],
    "features": ["dataset=circles", "model.hidden_sizes=[8]"],
}


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name != "mlp"]


@needs_onnx
@pytest.mark.parametrize("name", ["mlp", *SLOW])
def test_onnxruntime_gives_the_same_probabilities(name, dltrain, tmp_path):
    import onnx
    import onnxruntime

    brief = ("trainer.max_steps=5", "trainer.threads=1", "loggers=none", "hydra.run.dir=r")
    assert dltrain("train", *brief, *MODELS[name]).code == 0
    run = load_run(tmp_path / "r", device="cpu")
    shape = run.preprocessing.shape
    rng = numpy.random.default_rng(0)
    samples = rng.integers(0, 256, (11, *shape), numpy.uint8)
    if len(shape) == 1:
        samples = rng.standard_normal((11, *shape), numpy.float32)
    expected = run.predict(samples)
    for preprocess, inputs in (
        ("false", run.preprocess(samples).numpy()),
        ("true", numpy.moveaxis(samples, 1, -1) if len(shape) == 3 else samples),
    ):
        words = ("format=onnx", "output=m.onnx", "overwrite=true", f"preprocess={preprocess}")
        outcome = dltrain("export", "r", *words)
        assert outcome.code == 0, outcome.err
        assert f"ONNX, opset {OPSET}" in outcome.out
        model = onnx.load(tmp_path / "m.onnx")
        assert model.opset_import[0].version == OPSET
        metadata = {each.key: each.value for each in model.metadata_props}
        assert json.loads(metadata["classes"]) == run.classes
        session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
        for size in (1, 3, 11):
            part = numpy.ascontiguousarray(inputs[:size])
            found = torch.from_numpy(session.run(None, {"input": part})[0])
            found = found if preprocess == "true" else found.softmax(1)
            torch.testing.assert_close(found, expected[:size], rtol=0, atol=1e-5)
        assert b".py" not in (tmp_path / "m.onnx").read_bytes()
