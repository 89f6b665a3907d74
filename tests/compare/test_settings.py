"""The columns are what tells runs apart, under the shortest name that is clear."""

import pytest

from dltrain.compare.find import find_runs
from dltrain.compare.settings import differing, resolve, short_names, show
from dltrain.errors import UserError


@pytest.fixture
def found(tmp_path):
    return lambda: find_runs([str(tmp_path)])


def test_only_what_differs_is_shown_and_the_seed_is_last(make_run, found):
    make_run("a", seed=0, **{"optimizer.lr": 0.1, "loader.batch_size": 32})
    make_run("b", seed=1, **{"optimizer.lr": 0.2, "loader.batch_size": 64})
    assert differing(found()) == ["loader.batch_size", "optimizer.lr", "seed"]


def test_one_and_true_differ_null_and_missing_do_not(make_run, found):
    make_run("a", **{"trainer.compile": True, "trainer.max_time": None})
    make_run("b", **{"trainer.compile": 1})
    assert differing(found()) == ["trainer.compile"]


def test_what_changes_no_result_is_not_shown(make_run, found):
    make_run("a", name="x", resume="auto", **{"loggers.csv": {"a": 1}})
    make_run("b", name="y", **{"dataset.download": True})
    assert differing(found()) == []


def test_a_rerun_is_the_same_setting(make_run, found):
    """It has in its config what `auto` stood for."""
    make_run("a", **{"trainer.device": "auto", "trainer.threads": "auto"})
    again = {"trainer.device": "cpu", "trainer.threads": 1, "loader.num_workers": 2}
    make_run("b", **again, **{"callbacks.graph": {"_target_": "x"}, "checkpoint.keep": 5})
    assert differing(found()) == []


def test_what_follows_from_a_choice_is_not_shown_unless_it_was_varied(make_run, found):
    cnn = {"model": {"_target_": "dltrain.models.cnn.CNN", "channels": [8]}, "optimizer.lr": 0.1}
    choices = {"dataset": "digits", "model": "cnn", "optimizer": "adamw"}
    make_run("a")
    make_run("b", choices=choices, **cnn)
    assert differing(found()) == ["model", "optimizer.lr"]
    make_run("c", **{"model.hidden_sizes": [8]})
    assert differing(found()) == ["model", "model.hidden_sizes", "optimizer.lr"]


def test_what_every_choice_has_is_shown_beside_the_choice(make_run, found):
    """A learning rate that is an optimizer's default is a learning rate."""
    sgd = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}}
    make_run("a")
    make_run("b", choices={"dataset": "digits", "model": "mlp", "optimizer": "sgd"}, **sgd)
    assert differing(found()) == ["optimizer", "optimizer.lr"]


def test_facts_of_another_dataset_are_not_settings(make_run, found):
    make_run("a")
    make_run("b", choices={"dataset": "kmnist", "model": "mlp"}, **{"dataset.mean": [0.1],
             "model.num_classes": 49})  # fmt: skip
    assert differing(found()) == ["dataset"]


def test_without_a_record_the_class_tells_parts_apart(make_run, found):
    run = make_run("a")
    make_run("b", **{"optimizer._target_": "torch.optim.SGD"})
    (run / "run.json").unlink()
    assert differing(found()) == ["optimizer._target_"]


def test_a_name_is_short_where_it_is_clear():
    keys = ["optimizer.lr", "model.dropout", "task.dropout", "seed"]
    assert list(short_names(keys).values()) == ["lr", "model.dropout", "task.dropout", "seed"]


def test_a_short_name_is_what_differs_and_else_has_to_be_clear(make_run, found):
    make_run("a", **{"model.rate": 1, "task.rate": 5})
    make_run("b", **{"model.rate": 2, "task.rate": 5})
    assert resolve("rate", found(), ["model.rate"]) == "model.rate"
    assert resolve("task.rate", found(), []) == "task.rate"
    assert resolve("lr", found(), []) == "optimizer.lr"
    assert resolve("nothing", found(), []) is None
    with pytest.raises(UserError, match=r"can be `model\.rate`, `task\.rate`"):
        resolve("rate", found(), [])


def test_what_was_varied_within_one_dataset_is_a_setting(make_run, found):
    """Means over seeds would otherwise be over different trainings."""
    for number, std in enumerate(([0.1], [0.5])):
        changes = {"dataset.std": std, "model.num_classes": 10 * number}
        make_run(f"a{number}", data={"train": "1"}, **changes)
    assert differing(found()) == ["dataset.std", "model.num_classes"]


def test_facts_that_follow_from_a_setting_are_none(make_run, found):
    for size in (28, 32):
        shape = [3, size, size]
        changes = {"dataset.image_shape": shape, "model.input_shape": list(shape)}
        make_run(f"a{size}", data={"train": str(size)}, **{"dataset.size": size}, **changes)
    assert differing(found()) == ["dataset.size"]


def test_folders_with_other_data_are_a_setting_and_with_equal_data_none(make_run, found):
    make_run("a", data={"train": "1"}, **{"dataset.root": "here", "dataset.num_classes": 10})
    make_run("b", data={"train": "1"}, **{"dataset.root": "there", "dataset.num_classes": 10})
    assert differing(found()) == []
    make_run("c", data={"train": "2"}, **{"dataset.root": "third", "dataset.num_classes": 5})
    assert differing(found()) == ["dataset.root"]


def test_a_folder_whose_split_was_varied_is_one_folder(make_run, found):
    make_run("a", data={"train": "1"}, **{"dataset.root": "here", "dataset.split_seed": 0})
    make_run("b", data={"train": "2"}, **{"dataset.root": "here", "dataset.split_seed": 1})
    make_run("c", data={"train": "2"}, **{"dataset.root": "there", "dataset.split_seed": 1})
    assert differing(found()) == ["dataset.split_seed"]


def test_a_run_without_its_record_is_compared_as_the_others(make_run, found):
    choices = {"dataset": "digits", "model": "mlp", "trainer": "default", "augmentation": "none"}
    make_run("a", choices=choices, data={"train": "1"}, augmentation={})
    lost = make_run("b", choices=choices, augmentation={})
    (lost / "run.json").unlink()
    damaged = make_run("c", choices=choices, augmentation={})
    (damaged / "run.json").write_text("{")
    assert differing(found()) == []


@pytest.mark.parametrize("reference", ["${.batch_size}", "${loader.batch_size}"])
def test_what_the_config_sets_to_another_keys_value_is_no_difference(make_run, found, reference):
    loader = {"batch_size": 64, "eval_batch_size": reference}
    for number, size in enumerate((32, 64)):
        changes = {"loader.batch_size": size, "loader.eval_batch_size": size}
        make_run(f"a{number}", unresolved={"loader": loader}, **changes)
    assert differing(found()) == ["loader.batch_size"]
    changes = {"loader.batch_size": 64, "loader.eval_batch_size": 8}
    make_run("b", unresolved={"loader": {"batch_size": 64, "eval_batch_size": 8}}, **changes)
    assert differing(found()) == ["loader.batch_size", "loader.eval_batch_size"]


def test_settings_that_happen_to_be_equal_are_both_shown(make_run, found):
    """Paired by `sweep.zip`, say: each of them is a reason for what came out."""
    for number, rate in enumerate((0.1, 0.2)):
        written = {"model": {"dropout": rate}, "optimizer": {"lr": rate}}
        make_run(f"{number}", unresolved=written, **{"model.dropout": rate, "optimizer.lr": rate})
    assert differing(found()) == ["model.dropout", "optimizer.lr"]


def test_a_key_can_follow_from_one_above_its_parent(make_run, found):
    """As OmegaConf counts the dots: `..` is beside the parent."""
    written = {"seed": 0, "dataset": {"split_seed": "${..seed}"}}
    for seed in (0, 1):
        make_run(f"{seed}", seed=seed, unresolved=written, **{"dataset.split_seed": seed})
    assert differing(found()) == ["seed"]


def test_settings_that_follow_each_other_are_both_shown(make_run, found):
    written = {"a": {"x": "${.y}", "y": "${.x}"}}
    for number in (0, 1):
        make_run(f"{number}", unresolved=written, **{"a.x": number, "a.y": number})
    assert differing(found()) == ["a.x", "a.y"]


def test_a_folder_of_hydras_that_cannot_be_read_says_nothing(make_run, found, tmp_path):
    (tmp_path / ".elsewhere").mkdir()
    text = "loader: {eval_batch_size: '${.batch_size}'}"
    (tmp_path / ".elsewhere" / "config.yaml").write_text(text)
    for number, size in enumerate((32, 64, 96)):
        changes = {"loader.batch_size": size, "loader.eval_batch_size": size}
        run = make_run(f"a{number}", unresolved={"a": 1} if number else None, **changes)
        if number:
            (run / ".hydra" / "config.yaml").write_text("[" * number * 1000)
        else:
            (run / ".hydra").symlink_to(tmp_path / ".elsewhere")
    assert differing(found()) == ["loader.batch_size", "loader.eval_batch_size"]


def test_a_value_is_shown_as_it_is_typed():
    values = (None, True, 0, 0.0, -2.0, 0.001, 1e-5, 1e30, "sgd")
    assert [*map(show, values)] == [
        *("null", "true", "0", "0.0", "-2.0", "0.001", "1e-05", "1e+30", "sgd")
    ]
