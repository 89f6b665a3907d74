"""Which jobs can be trained together is known by their configs, before torch is imported."""

import copy

import pytest

from dltrain.commands.checked import checked
from dltrain.config.compose import compose, job_config
from dltrain.sweeps.ledger import JobRecord
from dltrain.sweeps.stackable import plan, why_alone


def config_of(*overrides):
    return checked(job_config(compose(list(overrides))))


def record(number, config):
    return JobRecord(number, [], {}, f"{number}_job", config, {}, {})


def planned(*variants):
    jobs = [record(number, config_of(*variant)) for number, variant in enumerate(variants)]
    found = plan(jobs)
    groups = [[job.number for job in group] for group in found.groups]
    return groups, {job.number: why for job, why in found.alone}


def test_what_each_member_has_for_itself_may_differ():
    groups, alone = planned(
        ("seed=1", "optimizer.lr=0.1"),
        ("optimizer=sgd", "scheduler=constant", "trainer.max_grad_norm=1"),
        ("task.label_smoothing=0.1", "trainer.max_epochs=3", "callbacks=[default,ema]"),
        ("callbacks=[default,early_stopping]", "checkpoint.keep=5", "loggers=[csv]"),
    )
    assert groups == [[0, 1, 2, 3]]
    assert not alone


def test_another_network_or_another_shape_of_batches_is_another_group():
    groups, alone = planned(
        ("model=mlp",),
        ("model=linear",),
        ("model=mlp", "seed=1"),
        ("model=linear", "seed=1"),
        ("model=mlp", "loader.batch_size=32"),
        ("model=mlp", "trainer.accumulate=2"),
        ("model=mlp", "augmentation=shift"),
    )
    assert groups == [[0, 2], [1, 3]]
    assert alone.keys() == {4, 5, 6}
    assert all("no other job" in why for why in alone.values())


def test_another_start_of_the_same_network_is_of_the_group():
    start = ("model=resnet20", "augmentation=none")
    groups, alone = planned(start, (*start, "model.zero_init_last=true"))
    assert groups == [[0, 1]]
    assert not alone


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("trainer.max_time=1h", "time"),
        ("trainer.budget=1h", "time"),
        ("trainer.compile=true", "compile"),
        ("trainer.precision=fp16", "fp16"),
        ("loader.num_workers=2", "streamed"),
        ("loader.placement=stream", "streamed"),
        ("callbacks=[default,histograms]", "callbacks.histograms"),
        ("callbacks=[default,profiler]", "callbacks.profiler"),
        ("loggers=[wandb]", "loggers.wandb"),
    ],
)
def test_what_cannot_be_shared_is_named(override, why):
    assert why in why_alone(config_of(override))


def test_somebody_elses_callback_is_not_guessed_about():
    config = copy.deepcopy(config_of())
    config["callbacks"]["mine"] = {"_target_": "my_package.Mine"}
    assert "callbacks.mine" in why_alone(config)
