"""What is exported gives the run's own probabilities, or there is no file."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from dltrain import exported, load_run
from dltrain.errors import DltrainError, UserError
from dltrain.exported import export_run, random_samples, real_samples


@pytest.fixture(scope="module")
def run(finished_run):
    return load_run(finished_run, device="cpu")


@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_an_export_is_read_back_and_compared_in_several_batch_sizes(format, run, tmp_path):
    real = random_samples(run, 5, seed=9)
    done = export_run(run, tmp_path / "m", format=format, real=real)
    assert done.num_compared == 1 + 2 + 7 + 5
    assert done.difference <= 1e-5
    assert done.num_bytes == done.path.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_the_metadata_hold_what_a_reader_needs(run, tmp_path):
    path = export_run(run, tmp_path / "m.safetensors", format="safetensors").path
    with safe_open(path, framework="pt") as file:
        found = file.metadata()
        names = set(file.keys())
    assert names == run.model.state_dict().keys()
    assert found["format"] == "pt"
    assert json.loads(found["config"]) == run.config
    assert json.loads(found["classes"]) == run.classes
    assert found["input"] == "float32 [N, 1, 8, 8]"
    assert found["output"] == "logits [N, 10]"
    preprocessing = json.loads(found["preprocessing"])
    assert preprocessing["size"] == [8, 8]
    assert preprocessing["mean"] == run.config["dataset"]["mean"]
    assert preprocessing["normalise_in_graph"] is False


def test_a_graph_that_says_something_else_gets_no_name(run, tmp_path, monkeypatch):
    real_read = exported.read

    def read(*arguments):
        function, found = real_read(*arguments)
        return lambda inputs: function(inputs) + 0.01 * torch.arange(10), found

    monkeypatch.setattr(exported, "read", read)
    (tmp_path / "m.pt2").write_bytes(b"old")
    with pytest.raises(DltrainError, match="other probabilities than the run, by up to"):
        export_run(run, tmp_path / "m.pt2", format="torch")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
    export_run(run, tmp_path / "m.pt2", format="torch", tolerance=0.1)


def test_numbers_that_are_none_are_never_within_the_tolerance(run, tmp_path, monkeypatch):
    real_read = exported.read

    def read(*arguments):
        function, found = real_read(*arguments)
        return lambda inputs: function(inputs) + (0.0 if len(inputs) < 7 else float("nan")), found

    monkeypatch.setattr(exported, "read", read)
    with pytest.raises(DltrainError):
        export_run(run, tmp_path / "m.safetensors", format="safetensors", tolerance=0.9)


def test_a_model_that_cannot_be_traced_is_the_users_matter(run, tmp_path, monkeypatch):
    monkeypatch.setattr(run.model, "forward", lambda x: x if x.sum() > 0 else -x)
    with pytest.raises(UserError, match="cannot trace this model"):
        export_run(run, tmp_path / "m.pt2", format="torch")
    assert not list(tmp_path.iterdir())


def test_real_samples_are_those_of_the_dataset_or_none(run):
    samples = random_samples(run, 20, seed=0)
    assert (real_samples(run, samples) == samples[:16]).all()
    assert real_samples(run, samples.astype("float32")) is None
    assert real_samples(run, samples[:, :, :4]) is None


def test_pixels_in_a_graph_give_the_probabilities_of_predict(run, tmp_path):
    from dltrain.export.formats import torch_function

    path = export_run(run, tmp_path / "m.pt2", format="torch", preprocess=True).path
    function, text = torch_function(path)
    found = json.loads(text)
    assert found["classes"] == run.classes
    assert found["input"] == "uint8 [N, 8, 8, 1]"
    assert found["output"] == "probabilities [N, 10]"
    images = random_samples(run, 3, seed=4)
    pixels = torch.from_numpy(images).movedim(1, -1)
    torch.testing.assert_close(function(pixels), run.predict(images), rtol=0, atol=1e-5)


def test_nothing_of_this_machine_but_the_config_is_in_the_file(run, tmp_path):
    path = export_run(run, tmp_path / "m.pt2", format="torch").path
    assert str(Path(exported.__file__).parent).encode() not in path.read_bytes()
