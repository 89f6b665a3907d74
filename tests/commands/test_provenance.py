"""What made a run is recorded, and asking git for it runs nothing that a folder brings along."""

import subprocess

import pytest

from dltrain.commands.code import MAX_DIFF_BYTES, changed_files, git_state, source_files
from dltrain.commands.provenance import changes_since, differences, settings_digest

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
    changed = git_state()
    assert (changed["commit"], changed["dirty"]) == (state["commit"], True)
    assert "-1\n" in changed["diff"]
    assert "+2\n" in changed["diff"]
    assert git_state(with_diff=False) == {k: v for k, v in changed.items() if k != "diff"}
    (tmp_path / "file").write_text("3")
    assert git_state()["diff_digest"] != changed["diff_digest"]


def test_a_long_diff_is_cut_and_known_whole(repository, tmp_path):
    (tmp_path / "file").write_text("é\n" * MAX_DIFF_BYTES)
    long = git_state()
    assert long["diff"].endswith("[cut here]\n")
    assert len(long["diff"].encode()) < MAX_DIFF_BYTES + 100
    (tmp_path / "file").write_text("é\n" * MAX_DIFF_BYTES + "!")
    assert git_state()["diff"][-1000:] == long["diff"][-1000:]
    assert git_state()["diff_digest"] != long["diff_digest"]


def test_a_diff_starts_no_program_of_the_repository(repository, tmp_path):
    script, canary = tmp_path / "evil.sh", tmp_path / "canary"
    script.write_text(f"#!/bin/sh\ntouch {canary}\ncat\n")
    script.chmod(0o755)
    (tmp_path / ".gitattributes").write_text("* diff=evil\n")
    for key in ("diff.external", "diff.evil.command", "diff.evil.textconv", "core.pager"):
        repository("config", key, str(script))
    (tmp_path / "file").write_text("2")
    assert "+2\n" in git_state()["diff"]
    assert not canary.exists()


def test_source_files_are_known_by_their_content(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_fresh_net.py").write_text("a = 1\n")
    first = source_files(["my_fresh_net"])
    assert first.keys() == {"dltrain", "my_fresh_net"}
    (tmp_path / "my_fresh_net.py").write_text("a = 2\n")
    second = source_files(["my_fresh_net.inner", "not_there_at_all"])
    assert second.keys() == {"dltrain", "my_fresh_net"}
    assert changed_files(first["my_fresh_net"], second["my_fresh_net"]) == ["my_fresh_net.py"]
    assert second["dltrain"] == first["dltrain"]
    assert len(first["dltrain"]) > 100
    assert first["dltrain"].keys() > {"cli.py", "engine/trainer.py"}


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


def test_other_data_keep_a_run_that_goes_on_from_being_the_same():
    old = {"device": "cpu", "threads": 1, "precision": "fp32", "data": {"train": "a" * 64}}
    assert differences(old, old | {"versions": {}}) == []
    new = old | {"versions": {}, "data": {"train": "b" * 64, "val": "c" * 64}}
    assert differences(old, new) == ["data of train aaaaaaaaaaaa -> bbbbbbbbbbbb"]
    for hostile in ({"train": "\x1b[2J"}, {"train": 3}, "x", ["train"]):
        assert differences(old | {"data": hostile}, new) == []


def test_what_changes_no_number_is_no_setting():
    config = {"seed": 0, "name": "a", "loggers": {"x": {}}, "loader": {"num_workers": 0, "n": 1}}
    first = settings_digest(config)
    free = {"name": "b", "loggers": {}, "loader": {"num_workers": 4, "n": 1}}
    assert settings_digest(config | free) == first
    assert settings_digest(config | {"seed": 1}) != first
    assert settings_digest(config | {"loader": {"num_workers": 0, "n": 2}}) != first


def test_all_that_has_changed_is_named():
    old = {
        "git": {"commit": "a" * 40, "dirty": False},
        "sources": {"dltrain": "b" * 64},
        "source_files": {"dltrain": {"gone.py": "1", "same.py": "1", "data/a.py": "1"}},
        "versions": {"torch": "2.11"},
        "device": "cpu",
        "threads": 1,
    }
    assert changes_since(old, old) == []
    new = old | {
        "git": {"commit": "c" * 40, "dirty": True, "diff": "x"},
        "sources": {"dltrain": "d" * 64},
        "source_files": {"dltrain": {"new.py": "1", "same.py": "1", "data/a.py": "2"}},
        "versions": {"torch": "2.15"},
        "data": {"train": "e" * 64},
        "threads": 2,
    }
    assert changes_since(old, new) == [
        "code: commit aaaaaaaaaaaa -> cccccccccccc",
        "code: dirty False -> True",
        "code: the files of dltrain bbbbbbbbbbbb -> dddddddddddd: data/a.py, gone.py, new.py",
        "version of torch 2.11 -> 2.15",
        "data is not in its record: unknown",
        "threads 1 -> 2",
    ]


@pytest.mark.parametrize("value", [None, 3, [1], {"x": {"y": []}}, "\x1b[2J" * 99])
def test_a_record_of_a_stranger_is_only_shown(value):
    keys = ("git", "sources", "source_files", "versions", "data", "device", "threads", "precision")
    new = {"git": {"commit": "a"}, "sources": {"dltrain": "b"}, "versions": {}, "data": {}}
    new["source_files"] = {"dltrain": {"a.py": "1"}}
    files = {"sources": {"dltrain": "c"}, "source_files": {"dltrain": value}}
    for old in (dict.fromkeys(keys, value), files, {"git": {"commit": value, "\n": value}}):
        lines = changes_since(old, new)
        assert all(line.isprintable() and len(line) < 300 for line in lines)
