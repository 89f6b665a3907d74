"""What made a run is recorded, and asking git for it runs nothing that a folder brings along."""

import subprocess

import pytest

from dltrain.commands.code import git_state
from dltrain.commands.provenance import differences

HOSTILE = {
    "fsmonitor": ("core.fsmonitor",),
    "clean filter": ("filter.evil.clean",),
    "process filter": ("filter.evil.process",),
}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A function that runs git in a repository of one commit, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")

    def git(*arguments):
        name = ("-c", "user.name=x", "-c", "user.email=x@y")
        subprocess.run(["git", *name, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("1")
    (tmp_path / ".gitattributes").write_text("* filter=evil\n")
    git("add", ".")
    git("commit", "-m", "one")
    return git


def test_the_commit_and_whether_the_tree_was_dirty(repository, tmp_path):
    state = git_state()
    assert len(state["commit"]) == 40
    assert state["dirty"] is False
    (tmp_path / "file").write_text("2")
    assert git_state() == {"commit": state["commit"], "dirty": True}


@pytest.mark.parametrize("what", HOSTILE)
def test_nothing_runs_that_a_folder_brings_with_it(what, repository, tmp_path):
    script, canary = tmp_path / "evil.sh", tmp_path / "canary"
    script.write_text(f"#!/bin/sh\ntouch {canary}\ncat\n")
    script.chmod(0o755)
    for key in HOSTILE[what]:
        repository("config", key, str(script))
    (tmp_path / "file").write_text("2")  # as long as before, so that git looks into it
    assert git_state()["dirty"] is None
    assert not canary.exists()


def test_outside_of_a_repository_there_is_no_state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() is None


def test_what_keeps_a_run_from_being_the_same_is_named():
    versions = {"dltrain": "1", "torch": "2.11", "torchvision": "0.26", "numpy": "2.0"}
    old = {"versions": versions, "device": "cuda:0 (A)", "threads": 2, "precision": "fp32"}
    assert differences(old, old | {"device": "cuda:1 (A)"}) == []
    new = old | {"versions": versions | {"torch": "2.15"}, "device": "cpu", "threads": 1}
    assert differences(old, new) == [
        "torch 2.11 -> 2.15",
        "device cuda (A) -> cpu",
        "threads 2 -> 1",
    ]
    assert differences({}, new) == []
