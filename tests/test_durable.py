"""Files that are written together: each whole or not there, and none with its name before."""

import os

import pytest

from dltrain import durable
from dltrain.durable import replace_text, sync_folder, synced_together, temporary_name


@pytest.fixture
def synced(monkeypatch):
    """The paths that were synced, in their order; and they are."""
    found, fsync = [], os.fsync

    def record(descriptor):
        found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return found


linux = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="asks /proc for names")


@linux
def test_contents_are_synced_before_the_names_are_given_and_folders_after(tmp_path, synced):
    paths = [tmp_path / name for name in ("a", "b")]
    paths[0].write_text("old")
    with synced_together():
        for path in paths:
            replace_text(path, f"new {path.name}")
        sync_folder(tmp_path)
        assert not synced
        assert paths[0].read_text() == "old"
        assert not paths[1].exists()
    assert sorted(synced[:2]) == [str(temporary_name(path)) for path in paths]
    assert synced[2:] == [str(tmp_path)]
    assert [path.read_text() for path in paths] == ["new a", "new b"]
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@linux
def test_of_the_same_file_the_last_content_counts(tmp_path, synced):
    with synced_together():
        replace_text(tmp_path / "a", "first")
        replace_text(tmp_path / "a", "second")
        replace_text(tmp_path / "b", "first")
        replace_text(tmp_path / "b", "second", sync=False)
        assert (tmp_path / "b").read_text() == "second"
    assert [(tmp_path / name).read_text() for name in "ab"] == ["second", "second"]
    replace_text(tmp_path / "c", "alone")
    assert synced[-2:] == [str(temporary_name(tmp_path / "c")), str(tmp_path)]


def test_what_fails_within_leaves_what_came_before_durable(tmp_path):
    with pytest.raises(ValueError, match="mine"), synced_together():  # noqa: PT012
        replace_text(tmp_path / "a", "text")
        raise ValueError("mine")
    assert (tmp_path / "a").read_text() == "text"
    assert durable._waiting.batch is None
