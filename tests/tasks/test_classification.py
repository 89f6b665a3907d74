"""The classification task: mixed labels, and evaluation over several views of an image."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dltrain.data.batch import Batch
from dltrain.engine.accumulate import Accumulate
from dltrain.tasks.classification import Classification

GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(11, 3, 6, 5, generator=GENERATOR)
LABELS = torch.arange(11) % 7
SHARES = torch.rand(11, 7, generator=GENERATOR)
SHARES /= SHARES.sum(1, keepdim=True)


def batch(targets=LABELS, inputs=INPUTS):
    return Batch(inputs, targets, torch.arange(len(inputs)))


def make_model():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(90, 12), nn.Tanh(), nn.Linear(12, 7))


# ---------------------------------------------------------------------- mixed labels


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_labels_as_shares_are_labels(label_smoothing):
    task, model = Classification(num_classes=7, label_smoothing=label_smoothing), make_model()
    loss, records = task.train(model, batch())
    as_shares, records_of_shares = task.train(model, batch(F.one_hot(LABELS, 7).float()))
    torch.testing.assert_close(as_shares, loss)
    assert all(map(torch.equal, records_of_shares, records))


def test_the_loss_of_shares_is_that_of_each_class_in_proportion():
    task, model = Classification(num_classes=7), make_model()
    loss, _ = task.train(model, batch(SHARES))
    expected = -(SHARES * F.log_softmax(model(INPUTS), dim=1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)


def test_the_class_with_most_of_an_image_counts_for_accuracy():
    task, model = Classification(num_classes=7), make_model()
    _, records = task.train(model, batch(SHARES))
    hits = (model(INPUTS).argmax(1) == SHARES.argmax(1)).sum()
    assert task.train_sums(*records)["accuracy"] == hits
    assert records[1].dtype == torch.int64


@pytest.mark.parametrize("num_pieces", [2, 4])
def test_micro_batches_of_shares_are_one_batch(num_pieces):
    task, gradients = Classification(num_classes=7, label_smoothing=0.1), []
    for pieces in ([(batch(SHARES), None)], Accumulate(num_pieces)(batch(SHARES))):
        model = make_model()
        for piece, share in pieces:
            task.train(model, piece)[0].backward(share)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*gradients)


# ---------------------------------------------------------------------- views


def views_of(name, image):
    """The views of one image, by hand, and their weights."""
    if name == "none":
        return [(1.0, image)]
    height, width = image.shape[1:]
    wide = F.pad(image[None], (1, 1, 1, 1), mode="reflect")[0]
    moved = [image] if name == "flip" else [image, image, None, None]
    if name == "flip_shift":
        moved[2:] = [wide[:, :height, :width], wide[:, 2:, 2:]]
    return [(0.5 / len(moved), view) for each in moved for view in (each, each.flip(-1))]


@pytest.mark.parametrize("views", ["none", "flip", "flip_shift"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_metrics_are_those_of_the_mean_probability(views, label_smoothing):
    task = Classification(num_classes=7, label_smoothing=label_smoothing, views=views)
    model = make_model().eval()
    with torch.no_grad():
        sums = task.evaluate(model, batch())
        probabilities = torch.stack(
            [
                sum(w * model(view[None]).double().softmax(1)[0] for w, view in views_of(views, x))
                for x in INPUTS
            ]
        )
    torch.testing.assert_close(probabilities.sum(1), torch.ones(11).double())
    smooth = (1 - label_smoothing) * F.one_hot(LABELS, 7) + label_smoothing / 7
    expected = -(smooth * probabilities.log()).sum().item()
    assert sums["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert sums["loss"].dtype == torch.float64
    assert sums["accuracy"].item() == (probabilities.argmax(1) == LABELS).sum()
    top = probabilities.topk(5).indices
    assert sums["accuracy_top5"].item() == (top == LABELS[:, None]).any(1).sum()


@pytest.mark.parametrize(("views", "passes"), [("none", 1), ("flip", 2), ("flip_shift", 6)])
def test_each_view_is_a_pass_and_training_has_but_one(views, passes):
    task, model, seen = Classification(num_classes=7, views=views), make_model(), []
    model.register_forward_hook(lambda *_: seen.append(1))
    task.train(model, batch())
    assert len(seen) == 1
    task.evaluate(model, batch())
    assert len(seen) == 1 + passes


def test_a_model_that_mirrors_do_not_change_is_the_same_with_flips():
    class Means(nn.Module):
        def forward(self, inputs):
            return inputs.mean((2, 3)) @ torch.eye(3, 7)

    sums = [
        Classification(num_classes=7, views=views).evaluate(Means(), batch())
        for views in ("none", "flip")
    ]
    assert {name: value.item() for name, value in sums[1].items()} == pytest.approx(
        {name: value.item() for name, value in sums[0].items()}
    )


def test_views_are_known_and_of_images():
    with pytest.raises(ValueError, match=r"task.views is 'flop'; it must be one of none, flip"):
        Classification(num_classes=7, views="flop")
    vectors = batch(inputs=torch.zeros(11, 90))
    task = Classification(num_classes=7, views="flip")
    with pytest.raises(ValueError, match=r"task.views is for images .* Choose task.views=none"):
        task.evaluate(make_model(), vectors)


@pytest.mark.parametrize("shape", ["[3]", "[1,1,8]"])
def test_views_that_the_images_do_not_have_are_refused_before_torch(shape, without_torch):
    outcome = without_torch(
        "train", "dataset=synthetic", f"dataset.image_shape={shape}", "task.views=flip"
    )
    assert (outcome.code, outcome.torch) == (2, False)
    assert "task.views is 'flip'; it must be none, as dataset.image_shape is" in outcome.err
