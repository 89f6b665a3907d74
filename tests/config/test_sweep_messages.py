"""What is told of a sweep that cannot be read, and of launchers' keys: what to type instead."""

import re

import pytest
import yaml

from dltrain.commands.sweep_search_space import specs_of
from dltrain.config.compose import compose
from dltrain.config.grammar import read_terms
from dltrain.config.messages import explain_compose_error
from dltrain.config.sweep_messages import no_lists
from dltrain.errors import UserError
from dltrain.sweeps.space import flat

SLURM = "hydra/launcher=submitit_slurm"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ([SLURM, "hydra.launcher.partion=gpu"], ["`hydra.launcher.partition`", f"info {SLURM}"]),
        ([SLURM, "hydra.launcher.gpus=1"], ["`hydra.launcher.gpus_per_node`"]),
        (["hydra.launcher.gpus=1"], ["hydra/launcher=local has no settings", "submitit_slurm"]),
        (["hydra.sweep.subdri=x"], ["`hydra.sweep.subdir`", "--cfg hydra"]),
        (["hydra/sweeper=recordd"], ["choices of hydra/sweeper: ", "grid, halving, optuna"]),
        (["model.hidden_sizes=[int(interval(8,64))]"], ["'model.hidden_sizes=[16],[32],[64]'"]),
        (["optimizer.lr=log(1e-4,1e-1)"], ["`log`", "'optimizer.lr=tag(log,interval(1e-4,1e-1))'"]),
        (["optimizer.lr=interval(1e-4,1e-1,log)"], ["'optimizer.lr=tag(log,interval(1e-4,1e-1))'"]),
        (["optimizer.lr=loguniform(1e-4, 1)"], ["'optimizer.lr=tag(log,interval(1e-4,1))'"]),
        (["model.dropout=one_of(0,0.5)"], ["`one_of`", "choice, range, interval"]),
    ],
)
def test_what_was_meant_is_named(overrides, named):
    with pytest.raises(UserError) as caught:
        compose(overrides)
    message = str(caught.value)
    assert all(each in message for each in named), message
    assert "recorded" not in message.replace("recordd", ""), "it is for resume alone"
    assert "trainer.device" not in message


def test_a_log_scale_as_it_is_advised_can_be_read():
    (term,) = read_terms(["optimizer.lr=tag(log,interval(1e-4,1e-1))"])
    assert term.interval.log
    with pytest.raises(Exception, match="too many positional") as caught:
        read_terms(["optimizer.lr=interval(1e-4,1e-1,log)"])
    assert term.text in explain_compose_error(caught.value, [], None)


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        ([SLURM, "hydra.launcher.additional_parameters={qos:normal,constraint:a100}"],
         "additional_parameters", {"requeue": True, "qos": "normal", "constraint": "a100"}),
        ([SLURM, "hydra.launcher.additional_parameters.mail-type=END"],
         "additional_parameters", {"requeue": True, "mail-type": "END"}),
        (["hydra/launcher=ray", "hydra.launcher.ray.remote.memory=1000"],
         "ray.remote", {"num_cpus": 1, "num_gpus": 0, "memory": 1000}),
    ],
)  # fmt: skip
def test_other_options_of_a_cluster_need_no_plus(overrides, key, value):
    node = compose(overrides).hydra.launcher
    for part in key.split("."):
        node = node[part]
    assert node == value


def test_all_else_of_a_launcher_is_as_closed_as_ever():
    with pytest.raises(UserError, match="there is no config key"):
        compose(["hydra/launcher=ray", "hydra.launcher.ray.inti=1"])


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (specs_of, "model.dropout: {values: interval(0,0.5), when: model=mlp}"),
        (specs_of, "lr: {values: tag(log, interval(1, 2))}"),
        (flat, "{model.dropout: interval(0,0.5)}"),
    ],
)
def test_what_yaml_split_at_a_comma_is_told_from_a_key(read, text):
    with pytest.raises(UserError, match="yaml ends a value at its comma; quote it"):
        list(read(yaml.safe_load(text)))
    quoted = re.sub(r"(tag|interval)(\(.*?\)+)", r'"\1\2"', text, count=1)
    assert list(read(yaml.safe_load(quoted)))


def test_values_that_are_to_be_lists_are_shown_as_lists():
    reason = "model.hidden_sizes is 16; it must be a list of whole numbers"
    hint = no_lists(reason, "model.hidden_sizes", ["16", "32"])
    assert "'model.hidden_sizes=[16],[32]'" in hint
    assert no_lists(reason, "seed", ["16", "32"]) == ""
    assert no_lists(reason.replace("16", "[x]"), "model.hidden_sizes", ["[x]"]) == ""
    assert no_lists("seed is -1; it must be >= 0", "seed", ["-1"]) == ""
