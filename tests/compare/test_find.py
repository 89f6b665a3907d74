"""Every run is found once, and what is none is called what it is."""

import fcntl
import os
import shutil

import pytest

from dltrain.compare import find
from dltrain.compare.find import find_runs
from dltrain.errors import UserError


def statuses(*paths):
    return {run.path.name: run.status for run in find_runs([str(path) for path in paths])}


def test_runs_are_found_at_any_depth_and_once(make_run, tmp_path):
    for name in ("a", "group/b", "group/sweep/10_x", "group/sweep/2_x"):
        make_run(name)
    os.symlink(tmp_path / "a", tmp_path / "group" / "again")
    paths = [str(tmp_path / name) for name in ("", "a", "group", "group/again")]
    assert [run.name for run in find_runs(paths)] == [
        *("a", "group/b", "group/sweep/2_x", "group/sweep/10_x")
    ]


def test_a_link_is_followed_only_where_it_is_named(make_run, tmp_path):
    make_run("elsewhere/a")
    make_run("here/b")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "around").symlink_to(tmp_path / "here")
    assert statuses(tmp_path / "here") == {"b": "completed"}
    assert statuses(tmp_path / "here" / "link") == {"a": "completed"}


def test_a_damaged_run_is_not_its_checkpoints(make_run, tmp_path):
    run = make_run("a")
    shutil.copytree(run, run / "checkpoints" / "step-1")
    (run / "config.yaml").unlink()
    assert statuses(tmp_path) == {"a": "damaged"}


def test_what_lies_in_a_run_or_its_checkpoints_is_no_run(make_run):
    run = make_run("a")
    for below in ("checkpoints/step-1", "evaluation", ".hydra"):
        shutil.copytree(run, run / below, ignore=shutil.ignore_patterns("*p*", "ev*", ".*"))
        (run / below / "summary.json").write_text("{}")
    assert statuses(run.parent) == {"a": "completed"}


@pytest.mark.parametrize("name", ["config.yaml", "run.json", ".hydra"])
def test_a_file_of_somebody_elses_does_not_hide_the_runs_below(make_run, tmp_path, name):
    make_run("project/outputs/a")
    (tmp_path / "project" / name).mkdir()
    assert statuses(tmp_path) == {"a": "completed"}


def test_a_run_that_nobody_holds_has_been_killed(make_run):
    run = make_run("a", status="running")
    assert statuses(run) == {"a": "killed"}
    descriptor = os.open(run, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert statuses(run) == {"a": "running"}
    os.close(descriptor)
    assert statuses(run) == {"a": "killed"}
    (run / "summary.json").unlink()
    assert statuses(run) == {"a": "killed"}, "it was killed before its first summary"


def test_damaged_and_foreign_folders_are_told_apart(make_run, tmp_path):
    for name in ("a", "no_config", "torn"):
        make_run(name)
    (tmp_path / "no_config" / "config.yaml").unlink()
    (tmp_path / "torn" / "summary.json").write_text('{"status": "comp')
    for name, text in {"other": "model: resnet\n", "list": "[1]\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
    (tmp_path / "hydra_job" / ".hydra").mkdir(parents=True)
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    assert statuses(tmp_path, tmp_path / "notes") == {
        "a": "completed",
        "no_config": "damaged",
        "torn": "damaged",
        "other": "foreign",
        "list": "damaged",
        "hydra_job": "foreign",
        "notes": "foreign",
    }


def test_nothing_but_foreign_folders_is_refused(tmp_path):
    (tmp_path / "notes").mkdir()
    with pytest.raises(UserError, match=r"there is no run in .*notes"):
        find_runs([str(tmp_path / "notes")])
    with pytest.raises(UserError, match="`nowhere` does not exist"):
        find_runs(["nowhere"])


def test_a_folder_without_end_is_given_up(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(find, "MAX_FOLDERS", 20)
    for number in range(30):
        (tmp_path / "many" / str(number)).mkdir(parents=True)
    with pytest.raises(UserError, match="more than 20 folders"):
        find_runs([str(tmp_path)])
