"""Suggestions name what a person would have meant, and nothing where nothing is near."""

import pytest

from dltrain.config.near import did_you_mean, near_names

KEYS = """
name seed dataset dataset.num_classes dataset.mean dataset.std loader.batch_size model model.dropout
optimizer optimizer.lr optimizer.betas optimizer.weight_decay scheduler.warmup trainer
trainer.max_epochs trainer.max_steps trainer.eval_every checkpoint.every
""".split()  # noqa: SIM905


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("optimzer.lr", "optimizer.lr"),
        ("lr", "optimizer.lr"),
        ("LR", "optimizer.lr"),
        ("trainer.lr", "optimizer.lr"),
        ("learning_rate", "optimizer.lr"),
        ("optimizer.learning_rate", "optimizer.lr"),
        ("optimizer.lerning_rate", "optimizer.lr"),
        ("optimizer.wd", "optimizer.weight_decay"),
        ("optimizer.lrr", "optimizer.lr"),
        ("max_epoch", "trainer.max_epochs"),
        ("train.max_epochs", "trainer.max_epochs"),
        ("batchsize", "loader.batch_size"),
        ("model.seed", "seed"),
        ("Modle", "model"),
    ],
)
def test_the_nearest_comes_first(name: str, meant: str) -> None:
    assert near_names(name, KEYS)[0] == meant


@pytest.mark.parametrize("name", ["zzz", "optimizer.zzz", "", "x.y.z"])
def test_nothing_where_nothing_is_near(name: str) -> None:
    assert near_names(name, KEYS) == []
    assert did_you_mean(name, KEYS) == ""


def test_did_you_mean_lists_three_at_most() -> None:
    choices = ["resnet18", "resnet34", "resnet50", "resnet101", "mlp"]
    assert did_you_mean("resnet18", ["mlp", "resnet18"]) == "did you mean `resnet18`?"
    assert did_you_mean("resnet35", choices) == (
        "did you mean `resnet34`, `resnet50` or `resnet18`?"
    )
    assert near_names("resnet35", choices, limit=1) == ["resnet34"]
    assert did_you_mean("x", []) == ""
