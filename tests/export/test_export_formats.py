"""A traced model takes any number of samples and says what the model says; no path is in it."""

import io
import sys
import zipfile

import pytest
import torch
from torch import nn

from dltrain.data.normalise import Normalise
from dltrain.export.formats import METADATA, torch_bytes, torch_function
from dltrain.export.graph import Logits, Probabilities, trace


def predict(model, inputs):
    return model(inputs)


@pytest.fixture
def model():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    return nn.Sequential(*layers).eval()


def test_a_graph_takes_any_number_of_samples(model, tmp_path):
    inputs = torch.randn(9, 3, 6, 6)
    content = torch_bytes(trace(Logits(model, predict), inputs[:2]), '{"a": 1}')
    (tmp_path / "m.pt2").write_bytes(content)
    function, metadata = torch_function(tmp_path / "m.pt2")
    assert metadata == '{"a": 1}'
    for size in (1, 2, 9):
        torch.testing.assert_close(function(inputs[:size]), model(inputs[:size]))


def test_pixels_are_normalised_as_the_loaders_do_it(model):
    mean, std, shape = [0.1, 0.5, 0.9], [0.2, 0.3, 0.4], (3, 6, 6)
    pixels = torch.randint(0, 256, (4, *shape), dtype=torch.uint8)
    graph = Probabilities(model, predict, mean=mean, std=std, sample_shape=shape, unit=255.0)
    program = trace(graph, pixels[:2].movedim(1, -1))
    normalise = Normalise(mean, std, sample_shape=shape, unit=255.0, device=torch.device("cpu"))
    expected = model(normalise(pixels)).softmax(1)
    torch.testing.assert_close(program.module()(pixels.movedim(1, -1)), expected)


def test_features_are_normalised_too():
    model, rows = nn.Linear(3, 2), torch.randn(5, 3)
    graph = Probabilities(model, predict, mean=[1.0], std=[2.0], sample_shape=(3,), unit=1.0)
    expected = model((rows - 1) / 2).softmax(1)
    torch.testing.assert_close(trace(graph, rows[:2]).module()(rows), expected)


def test_no_path_of_this_machine_is_in_the_file(model):
    content = torch_bytes(trace(Logits(model, predict), torch.zeros(2, 3, 6, 6)), "{}")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        texts = b"".join(archive.read(name) for name in names)
    assert any(name.endswith(METADATA) for name in names)
    assert b".py" not in texts
    assert str(sys.prefix).encode() not in texts


def test_a_model_that_looks_at_its_numbers_cannot_be_traced():
    class Looks(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"torch\.export cannot trace this model"):
        trace(Logits(Looks(), predict), torch.zeros(2, 3))
