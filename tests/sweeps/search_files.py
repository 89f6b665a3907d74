"""Spaces and settings of searches, for the tests beside this file."""

from dltrain.config.grammar import read_terms, term_of
from dltrain.sweeps.chooser import Chooser
from dltrain.sweeps.objectives import Objective
from dltrain.sweeps.search import Search
from dltrain.sweeps.search_space import parameters_of
from dltrain.sweeps.space import make_space

SETTINGS = {
    "trials": 12,
    "sampler": "tpe",
    "sampler_args": {},
    "seed": 0,
    "pruner": "none",
    "pruner_args": {},
}
ACCURACY = [Objective("accuracy/val", "max")]


class Facts:
    """Of a config that chooses a cnn, whatever else it says."""

    def value(self, overrides, key):
        return {"model": "cnn"}[key]

    def options(self, group):
        return []


def space(*texts, when=None, pairs=()):
    """(the parameters as they are typed, what of a choice counts)."""
    terms = read_terms(list(texts))
    settings = {"grid": {}, "zip": list(pairs), "list": [], "when": when or {}, "repeat": 1}
    made = make_space(terms, settings, lambda key, value: term_of(key, value, None, 0))
    chooser = Chooser(made, Facts())
    return parameters_of(made, chooser, terms), chooser.kept


def search(folder, space, objectives=ACCURACY, recorded=0, **settings):
    folder.mkdir(parents=True, exist_ok=True)
    parameters, kept = space
    return Search(folder, SETTINGS | settings, parameters, objectives, kept=kept, recorded=recorded)
