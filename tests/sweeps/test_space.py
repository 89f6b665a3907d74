"""What is typed and the `sweep` node -> jobs: which, in which order, and what is refused."""

import re

import pytest

from dltrain.config.grammar import read_terms, term_of
from dltrain.config.sweep import check_sweep
from dltrain.errors import UserError
from dltrain.sweeps.expand import jobs_of
from dltrain.sweeps.space import make_space

GROUPS = {"model": ["mlp", "cnn", "linear"], "optimizer": ["sgd", "adamw"]}


class Known:
    """The facts of a config without files: its choices, and a few values."""

    values = {"model": "mlp", "optimizer": "adamw", "seed": 0, "optimizer.lr": 0.001}  # noqa: RUF012

    def value(self, overrides, key):
        typed = dict(text.split("=", 1) for text in overrides)
        if key == "seed" and "seed" in typed:
            return int(typed["seed"])
        return typed[key] if key in typed else self.values[key]

    def options(self, group):
        return GROUPS.get(group, [])


def specs(typed="", seed=0, **node):
    """The jobs of a sweep, as `jobs_of` gives them."""
    settings = check_sweep(None) | node
    space = make_space(
        read_terms(typed.split(), seed=seed),
        settings,
        lambda key, value: term_of(key, value, None, seed),
    )
    options = {"draw": settings["random"], "sampler": settings["sampler"], "seed": seed}
    return space, jobs_of(space, Known(), **options)


def jobs(typed="", seed=0, **node):
    """The jobs as one line each, as they would be typed."""
    return [" ".join(job.overrides) for job in specs(typed, seed, **node)[1]]


# ---------------------------------------------------------------------- grids


def test_a_grid_is_every_combination_the_last_key_fastest():
    assert jobs("optimizer.lr=0.1,1 name=x seed=range(1,3)") == [
        "optimizer.lr=0.1 name=x seed=1",
        "optimizer.lr=0.1 name=x seed=2",
        "optimizer.lr=1 name=x seed=1",
        "optimizer.lr=1 name=x seed=2",
    ]


def test_a_file_says_what_could_be_typed_and_comes_before_it():
    grid = {"model": ["mlp", "cnn"], "optimizer": {"lr": "range(1,3)"}}
    assert jobs("seed=5,6", grid=grid)[:3] == [
        "seed=5 model=mlp optimizer.lr=1",
        "seed=6 model=mlp optimizer.lr=1",
        "seed=5 model=mlp optimizer.lr=2",
    ]


def test_values_of_a_file_reach_the_jobs_as_they_are():
    values = ["a b", "1", 1, 1.5, None, True, [1, "x,y"], "range(1,3)"]
    _, found = specs(grid={"model.x": values})
    read = [read_terms(job.overrides)[0] for job in found]
    assert [term.fixed for term in read] == [
        "'a b'", "'1'", "1", "1.5", "null", "true", "[1,'x,y']", "'range(1,3)'",
    ]  # fmt: skip


def test_what_all_jobs_have_in_common_is_no_part_of_their_names():
    _, found = specs("optimizer.lr=1,2 model=choice(mlp)", grid={"trainer.max_epochs": [3]})
    assert [job.swept for job in found] == [{"optimizer.lr": "1"}, {"optimizer.lr": "2"}]


def test_a_shuffle_is_the_same_at_every_start_and_another_for_another_seed():
    typed = "model.x=shuffle(range(0,50))"
    assert jobs(typed) == jobs(typed)
    assert jobs(typed) != jobs(typed, seed=1)
    assert sorted(jobs(typed)) == sorted(jobs("model.x=range(0,50)"))


# ---------------------------------------------------------------------- zip and list


def test_keys_of_a_zip_go_together_and_repeats_are_innermost():
    found = jobs(
        "optimizer.lr=0.1,0.01,0.001 loader.batch_size=32,64,128",
        zip=["optimizer.lr", "loader.batch_size"],
        repeat=2,
    )
    assert found == [
        f"optimizer.lr={lr} loader.batch_size={size} seed={seed}"
        for lr, size in ((0.1, 32), (0.01, 64), (0.001, 128))
        for seed in (0, 1)
    ]


def test_a_zip_is_one_axis_of_the_grid_where_its_first_key_stands():
    found = jobs("model.a=1,2 model.b=5,6 model.c=7,8", zip=["model.a", "model.c"])
    pairs = [[each.partition("=")[2] for each in job.split()] for job in found]
    assert pairs == [["1", "5", "7"], ["1", "6", "7"], ["2", "5", "8"], ["2", "6", "8"]]


def test_several_zips_make_a_grid_of_pairs():
    typed = "model.a=1,2 model.b=1,2 model.c=1,2 model.d=1,2"
    assert len(jobs(typed, zip=[["model.a", "model.b"], ["model.c", "model.d"]])) == 4


def test_settings_of_a_list_are_jobs_and_the_grid_is_made_of_each():
    settings = [{"model": "mlp", "optimizer.lr": 0.1}, {"model": "cnn"}]
    assert jobs("seed=1,2", list=settings) == [
        "seed=1 model=mlp optimizer.lr=0.1",
        "seed=2 model=mlp optimizer.lr=0.1",
        "seed=1 model=cnn",
        "seed=2 model=cnn",
    ]


def test_what_is_typed_wins_over_the_file_and_is_said():
    space, found = specs(
        "optimizer.lr=3", grid={"optimizer.lr": [1, 2]}, list=[{"seed": 1}, {"seed": 2}]
    )
    assert [job.overrides for job in found] == [
        ["optimizer.lr=3", "seed=1"],
        ["optimizer.lr=3", "seed=2"],
    ]
    assert space.notes == ["`optimizer.lr=3` was typed: what sweep.grid says of it is not tried"]


def test_what_is_typed_wins_over_a_list_and_settings_that_become_equal_are_one():
    settings = [{"optimizer.lr": 1, "seed": 1}, {"optimizer.lr": 2, "seed": 1}, {"seed": 2}]
    space, found = specs("optimizer.lr=3", list=settings)
    assert [job.overrides[1:] for job in found] == [["seed=1"], ["seed=2"]]
    assert len(space.notes) == 1


# ---------------------------------------------------------------------- when


def test_a_key_is_swept_only_where_its_condition_holds():
    found = jobs(
        "model=mlp,cnn,linear model.widths=1,2 model.depth=7",
        when={"model.widths": "model=cnn,linear", "model.depth": {"model": "linear"}},
    )
    assert found == [
        "model=mlp", "model=cnn model.widths=1", "model=cnn model.widths=2",
        "model=linear model.widths=1 model.depth=7", "model=linear model.widths=2 model.depth=7",
    ]  # fmt: skip


def test_a_condition_may_stand_before_what_it_asks_for():
    found = jobs("model.widths=1,2 model=mlp,cnn,linear", when={"model.widths": "model=cnn,linear"})
    assert found == [
        "model=mlp", "model.widths=1 model=cnn", "model.widths=1 model=linear",
        "model.widths=2 model=cnn", "model.widths=2 model=linear",
    ]  # fmt: skip


def test_a_condition_may_ask_for_what_is_not_swept():
    for typed, expected in (("", 1), ("model=cnn", 2), ("model=linear", 1)):
        assert len(jobs(f"model.x=1,2 {typed}", when={"model.x": "model=cnn"})) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("seed=1", [1]),
        ("seed!=1", [0, 2]),
        ("seed=0,2", [0, 2]),
        (["seed!=0", "seed!=2"], [1]),
        ("seed=1.0", [1]),
        ("seed=*", [0, 1, 2]),
    ],
)
def test_conditions(condition, expected):
    found = [
        job for job in jobs("seed=0,1,2 model.x=5,6", when={"model.x": condition}) if "x=5" in job
    ]
    assert found == [f"seed={seed} model.x=5" for seed in expected]


def test_conditions_prune_before_they_multiply():
    """Four keys of four values for each of three models: 3 x 4^4 jobs, and not 3 x 4^12."""
    grid = {"model": GROUPS["model"]} | {
        f"model.{model}{index}": [1, 2, 3, 4] for model in GROUPS["model"] for index in range(4)
    }
    when = {key: f"model={key[6:-1]}" for key in grid if key != "model"}
    assert len(jobs(grid=grid, when=when)) == 3 * 4**4


def test_a_condition_that_no_job_meets_is_said():
    space, found = specs("model.x=1,2", when={"model.x": "model=cnn"})
    assert [job.overrides for job in found] == [[]]
    assert space.notes == ["model.x is not tried: no job has model=cnn"]


# ---------------------------------------------------------------------- random


def test_drawn_jobs_are_different_the_same_for_a_seed_and_a_beginning_of_more():
    typed = "optimizer.lr=tag(log,interval(1e-5,1e-1)) model=mlp,cnn,linear"
    few, many = jobs(typed, random=10), jobs(typed, random=40)
    assert len(set(many)) == 40
    assert few == many[:10] == jobs(typed, random=10)
    assert few != jobs(typed, random=10, seed=1)
    assert few != jobs(typed, random=10, sampler="uniform")


def test_a_log_interval_is_drawn_by_decades():
    found = jobs("model.x=tag(log,interval(1e-4,1))", random=64)
    values = sorted(float(text.partition("=")[2]) for text in found)
    for decade in range(4):
        inside = [value for value in values if 10 ** (decade - 4) <= value < 10 ** (decade - 3)]
        assert len(inside) == 16


def test_whole_numbers_of_an_interval_have_both_ends():
    found = jobs("model.x=int(interval(3,6))", random=4)
    assert sorted(found) == [f"model.x={number}" for number in (3, 4, 5, 6)]


@pytest.mark.parametrize("sampler", ["sobol", "uniform"])
def test_a_draw_of_all_jobs_is_all_of_them(sampler):
    typed = "model.a=range(0,30) model.b=range(0,30)"
    assert sorted(jobs(typed, random=900, sampler=sampler)) == sorted(jobs(typed))


def test_draws_obey_conditions():
    found = jobs("model=mlp,cnn model.x=interval(0,1)", random=30, when={"model.x": "model=cnn"})
    assert "model=mlp" in found
    assert all(("model.x" in job) == ("cnn" in job) for job in found)


# ---------------------------------------------------------------------- mistakes


def case(**arguments):
    return arguments


WRONG = {
    "lengths": (
        case(typed="model.a=1,2 model.b=1,2,3", zip=["model.a", "model.b"]),
        "equally many values, but have model.a 2, model.b 3",
    ),
    "zip of what is fixed": (
        case(typed="model.a=1,2 model.b=1", zip=["model.a", "model.b"]),
        "model.b, which has one value, `model.b=1`",
    ),
    "zip of a stranger": (
        case(typed="model.alpha=1,2", zip=["model.alpha", "model.alhpa"]),
        "model.alhpa, which is not swept over; did you mean `model.alpha`",
    ),
    "zip of an interval": (
        case(typed="model.a=1,2 model.b=interval(0,1)", zip=["model.a", "model.b"]),
        "is an interval",
    ),
    "zip twice": (
        case(typed="model.a=1,2 model.b=1,2", zip=["model.a", "model.b", "model.a"]),
        "names model.a twice",
    ),
    "condition on a stranger": (
        case(typed="model.widths=1,2", when={"model.width": "model=cnn"}),
        "sweep.when names model.width, which is not swept over; did you mean `model.widths`",
    ),
    "condition that asks a stranger": (
        case(typed="model.x=1,2", when={"model.x": "modle=cnn"}),
        "asks for modle, and no job has such a key or group",
    ),
    "condition on no choice": (
        case(typed="model.x=1,2", when={"model.x": "model=cnm"}),
        "no such choice; one of mlp, cnn, linear",
    ),
    "no condition": (case(typed="model.x=1,2", when={"model.x": "cnn"}), "write a condition"),
    "conditions in a circle": (
        case(
            typed="model.x=1,2 model.y=1,2", when={"model.x": "model.y=1", "model.y": "model.x=1"}
        ),
        "model.x and model.y wait for each other",
    ),
    "an empty list": (case(grid={"seed": []}), "list of `seed` gives no value"),
    "nothing": (case(grid={"seed": None}), "sweep.grid.seed is empty"),
    "a value twice": (case(typed="seed=1,2,1"), "gives 1 twice, which makes equal jobs"),
    "a number twice": (case(grid={"optimizer.lr": [0.1, 1, 1.0]}), "1.0 twice"),
    "a setting twice": (case(list=[{"seed": 1}, {"seed": 1}]), "settings 0 and 1 are equal"),
    "grid and list": (
        case(grid={"seed": [1, 2]}, list=[{"seed": 3}]),
        "seed is in sweep.grid and in sweep.list",
    ),
    "seeds twice": (case(typed="seed=1,2", repeat=3), "sweep.repeat is 3, and seed is swept over"),
    "an endless grid": (case(typed="seed=interval(1,2)"), "`seed=interval.1,2.`.*sweep.random=20"),
    "more than there are": (case(typed="seed=1,2", random=3), "there are 2 different jobs"),
    "a draw of nothing": (case(typed="seed=1", random=3), "nothing is swept over"),
    "too many": (case(typed="name=range(0,1000) seed=range(0,1000)"), "more than 100000 jobs"),
    "a range the wrong way": (case(typed="seed=range(1,5,0)"), "no range"),
    "an interval the wrong way": (case(typed="seed=interval(5,1)"), "to a larger one"),
    "a log of nothing": (case(typed="seed=tag(log,interval(0,1))"), "must be > 0"),
    "an unknown tag": (case(typed="seed=tag(lgo,interval(1,2))"), "no tag lgo"),
    "Hydra's own": (case(grid={"hydra.job.name": ["a", "b"]}), "cannot be swept over"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_sentence(name):
    arguments, message = WRONG[name]
    with pytest.raises(UserError) as caught:
        jobs(**arguments)
    text = str(caught.value)
    assert re.search(message, text), text
    assert "\n" not in text
