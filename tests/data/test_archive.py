"""Extraction: only the files asked for, only into their folder, never without bound."""

import gzip

import pytest
from data_files import write_tar

from dltrain.data.archive import extracted

FILES = ("a", "b")


def _extract(path, max_bytes=1 << 20):
    with extracted(path, "folder", FILES, max_bytes=max_bytes):
        pass
    return path.parent / "folder"


def test_only_what_is_asked_for(tmp_path):
    path = tmp_path / "x.tar.gz"
    write_tar(path, {"./folder/a": b"A", "folder/b": b"B", "folder/c": b"C", "other/a": b"no"})
    assert _extract(path) == tmp_path / "folder"
    found = {p.name: p.read_bytes() for p in (tmp_path / "folder").iterdir()}
    assert found == {"a": b"A", "b": b"B"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "x.tar.gz"]


def test_nothing_leaves_the_folder(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    members = {"../escaped": b"!", "folder/../../escaped": b"!", f"{tmp_path}/escaped": b"!"}
    links = {"folder": str(tmp_path), "folder/b": "/etc/passwd"}
    write_tar(root / "x.tar.gz", members | {"folder/a": b"A"}, links)
    _extract(root / "x.tar.gz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["root"]
    assert [p.name for p in (root / "folder").iterdir()] == ["a"]
    assert not (root / "folder").is_symlink()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>no</html>", "damaged.*web page"),
        (gzip.compress(b"no tar at all" * 100), "damaged|no files"),
        (b"", "damaged|no files"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path, content, message):
    (tmp_path / "x.tar.gz").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        _extract(tmp_path / "x.tar.gz")
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar.gz"]


@pytest.mark.parametrize("size", [200, 40_000])
def test_a_truncated_archive_is_refused_whole(tmp_path, size):
    import random

    path = tmp_path / "x.tar.gz"
    write_tar(path, {"folder/a": random.Random(0).randbytes(50_000), "folder/b": b"B"})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="damaged"):
        _extract(path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar.gz"]


@pytest.mark.parametrize("name", ["folder/a", "other"])
def test_a_bomb_is_stopped(tmp_path, name):
    write_tar(tmp_path / "x.tar.gz", {name: bytes(30 << 20), "folder/b": b"B"})
    with pytest.raises(ValueError, match="unpacks to more than 1,048,576 bytes"):
        _extract(tmp_path / "x.tar.gz")
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar.gz"]


def test_an_archive_of_something_else_is_refused(tmp_path):
    write_tar(tmp_path / "x.tar.gz", {"something/a": b"A"})
    with pytest.raises(ValueError, match="no files of folder"):
        _extract(tmp_path / "x.tar.gz")
