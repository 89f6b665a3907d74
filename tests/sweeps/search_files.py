"""Spaces and settings of searches, for the tests beside this file."""

from hydra.core.override_parser.overrides_parser import OverridesParser

from dltrain.sweeps.objectives import Objective
from dltrain.sweeps.search import Search
from dltrain.sweeps.search_space import parameter

SETTINGS = {
    "trials": 12,
    "sampler": "tpe",
    "sampler_args": {},
    "seed": 0,
    "pruner": "none",
    "pruner_args": {},
}
ACCURACY = [Objective("accuracy/val", "max")]


def space(*texts, **conditions):
    """Parameters as they are typed; `depth="model=mlp"` is a condition."""
    parser = OverridesParser.create()
    overrides = [parser.parse_override(text) for text in texts]
    names = [override.key_or_group.rpartition(".")[2] for override in overrides]
    return [
        parameter(override, lambda group: ["cnn", "mlp"], conditions.get(name, ""))
        for override, name in zip(overrides, names, strict=True)
    ]


def search(folder, parameters, objectives=ACCURACY, known=(), recorded=0, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    return Search(
        folder, SETTINGS | settings, parameters, objectives, known=dict(known), recorded=recorded
    )
