"""Histograms, graph and embeddings are right, read by TensorBoard, and change nothing in a run."""

import json
import shutil

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from dltrain.callbacks.embeddings import Embeddings
from dltrain.callbacks.graph import trace
from dltrain.callbacks.histograms import Histograms, histograms
from dltrain.loggers.events import event_files, read_records
from dltrain.loggers.projector import make_sprite, write_projector

ALL = "callbacks=[default,histograms,graph,embeddings]"
SHORT = ("trainer.threads=1", "model.hidden_sizes=[16]", "trainer.log_every=5steps")
KEYS = ("callbacks.histograms.every=8", "callbacks.embeddings.num_samples=50")


def test_a_histogram_counts_as_numpy_does():
    values = torch.randn(5000, generator=torch.Generator().manual_seed(0)) * 4
    (buckets,) = histograms({"w": values}).values()
    counts, edges = np.histogram(values.numpy(), bins=30)
    np.testing.assert_allclose(buckets[:, 0], edges[:-1], atol=1e-4)
    np.testing.assert_allclose(buckets[:, 1], edges[1:], atol=1e-4)
    assert buckets[:, 2].sum() == 5000
    assert abs(buckets[:, 2] - counts).max() <= 2  # values at an edge


@pytest.mark.parametrize(
    ("values", "low", "high", "count"),
    [
        ([3.0, 3.0], 3.0, 3.0, 2),
        ([1.0, float("nan"), 2.0, float("inf")], 1.0, 2.0, 2),
        ([float("nan")], 0.0, 0.0, 0),
    ],
)
def test_a_histogram_of_what_has_no_width_or_is_not_finite(values, low, high, count):
    (buckets,) = histograms({"w": torch.tensor(values)}).values()
    assert (buckets[0, 0], buckets[-1, 1], buckets[:, 2].sum()) == (low, high, count)


def events(run_dir):
    for path in event_files(run_dir):
        yield from (Event.FromString(data) for _, data in read_records(path))


def histograms_of(run_dir):
    accumulator = EventAccumulator(str(run_dir), size_guidance={"tensors": 0}).Reload()
    found = {}
    for tag in accumulator.PluginTagToContent("histograms"):
        for event in accumulator.Tensors(tag):
            content = np.frombuffer(event.tensor_proto.tensor_content, "<f4")
            found[tag, event.step] = content.reshape(30, 3).tolist()
    return found


@pytest.fixture
def whole(dltrain, tmp_path):
    """A run of 25 steps with all of them, never stopped."""
    done = dltrain("train", ALL, *KEYS, *SHORT, "trainer.max_steps=25", "hydra.run.dir=whole")
    assert done.code == 0, done.err
    return tmp_path / "whole"


def test_a_run_that_goes_on_has_the_same_histograms_and_one_graph(whole, dltrain, tmp_path):
    """Stopped one step before a histogram: its gradients are those of the first step after."""
    stopping = ("checkpoint.every=15steps", "trainer.max_steps=25", "hydra.run.dir=parts")
    assert dltrain("train", ALL, *KEYS, *SHORT, *stopping, "checkpoint.keep=9").code == 0
    parts = tmp_path / "parts"
    for path in parts.glob("checkpoints/step-*"):
        if path.name > "step-00000015":
            shutil.rmtree(path)
    (parts / "model.safetensors").unlink()
    summary = json.loads((parts / "summary.json").read_text())
    summary |= {"status": "running", "step": 15, "checkpoint": 15}
    (parts / "summary.json").write_text(json.dumps(summary))
    done = dltrain("resume", "parts")
    assert done.code == 0, done.err
    found = histograms_of(parts)
    assert found == histograms_of(whole)
    assert {step for _, step in found} == {8, 16, 24}
    tags = {tag for tag, _ in found}
    assert {tag.partition("/")[0] for tag in tags} == {"weights", "gradients"}
    graphs = [event.graph_def for event in events(parts) if event.graph_def]
    assert len(graphs) == 1
    assert any("Linear" in node.name for node in GraphDef.FromString(graphs[0]).node)


def test_embeddings_are_files_that_the_projector_reads_wherever_the_run_lies(whole):
    config = ProjectorConfig()
    text_format.Parse((whole / "projector_config.pbtxt").read_text(), config)
    (embedding,) = config.embeddings
    vectors = np.fromfile(whole / embedding.tensor_path, "<f4").reshape(embedding.tensor_shape)
    labels = (whole / embedding.metadata_path).read_text().splitlines()
    assert len(vectors) == len(labels) == 50
    assert np.isfinite(vectors).all()
    with Image.open(whole / embedding.sprite.image_path) as sprite:
        assert sprite.size == tuple(8 * size for size in embedding.sprite.single_image_dim)


def test_what_is_shown_changes_no_weight(whole, dltrain, tmp_path):
    assert dltrain("train", *SHORT, "trainer.max_steps=25", "hydra.run.dir=plain").code == 0
    weights = [folder / "model.safetensors" for folder in (whole, tmp_path / "plain")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def has_hooks(model):
    return any(param._post_accumulate_grad_hooks for param in model.parameters())


def test_gradients_are_those_that_the_optimizer_was_given(run):
    """Between histograms there is no hook; at one, it holds the sum over all micro-batches."""
    shown = {}
    run.recorder = type("R", (), {"show": lambda self, _, step, name, buckets, now: shown.update(
        {(name, step): buckets})})()  # fmt: skip
    callback = Histograms(every=3)
    callback.on_fit_start(run)
    run.train(callback, 1)
    assert not has_hooks(run.model)
    run.train(callback, 1)
    assert has_hooks(run.model)
    run.train(callback, 1)
    assert not has_hooks(run.model)
    steps = {step for _, step in shown}
    assert steps == {3}
    grad = run.model[0].weight.grad
    assert shown["gradients/0.weight", 3][0, 0] == pytest.approx(grad.min().item())


def test_a_traced_model_is_left_as_it_was(run):
    run.model.train()
    before = {name: each.clone() for name, each in run.model.state_dict().items()}
    state = torch.get_rng_state()
    assert trace(run.model, torch.randn(1, 4, generator=run.generator))
    assert run.model.training
    assert all(torch.equal(each, before[name]) for name, each in run.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_sprite_holds_every_image_and_stays_small():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(6, 1).repeat(4, 2)
    data, height, width = make_sprite(images)
    assert (height, width, data[:4]) == (6, 4, b"\x89PNG")
    _, height, width = make_sprite(np.zeros((900, 600, 600, 1), np.uint8))
    assert height * 30 <= 8192


def test_labels_stay_in_their_lines(tmp_path):
    write_projector(tmp_path, np.zeros((2, 3), np.float32), ["a\nb\tc", ""], None)
    assert (tmp_path / "projector/labels.tsv").read_text() == "a?b?c\n?\n"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Histograms(every=0), r"callbacks.histograms.every is 0; it must be >= 1"),
        (lambda: Embeddings(num_samples=0), r"callbacks.embeddings.num_samples is 0; it must be"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
