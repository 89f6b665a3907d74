"""What was found is kept for the next start, and never trusted."""

import hashlib
import os
import random

import numpy as np
import pytest
from image_files import encoded, picture, write, write_tree

from dltrain.data import checked_images, header_cache, headers
from dltrain.data.checked_images import check_images
from dltrain.data.folder_scan import scan_classes
from dltrain.data.header_cache import cache_path
from dltrain.data.listing import KIND


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DLTRAIN_CACHE", str(tmp_path / "cache"))
    return write_tree(tmp_path / "root", classes=2, images=3)


@pytest.fixture
def opened(monkeypatch):
    """The names of the files whose headers were read."""
    seen: list[str] = []
    read = headers.read_header

    def watched(path):
        seen.append(os.fsdecode(path).rpartition("root/")[2])
        return read(path)

    monkeypatch.setattr(headers, "read_header", watched)
    return seen


def check(root, on_bad_image="skip"):
    files = scan_classes(os.fsencode(root)).files
    return check_images(root, files, on_bad_image=on_bad_image, progress=None)


def test_the_second_start_opens_nothing(root, opened):
    first = check(root)[0]
    assert len(opened) == 6
    opened.clear()
    np.testing.assert_array_equal(check(root)[0], first)
    assert opened == []


def touch(path):
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


CHANGES = {
    "another time": lambda root: touch(root / "c0/1.jpg"),
    "another size, the same time": lambda root: resized(root / "c0/1.jpg"),
    "a new one": lambda root: write(root / "c0/1a.jpg"),
    "a new name": lambda root: (root / "c0/1.jpg").rename(root / "c1/9.jpg"),
    "one less": lambda root: (root / "c0/1.jpg").unlink(),
}
OPENED = {"another time": ["c0/1.jpg"], "another size, the same time": ["c0/1.jpg"]}
OPENED |= {"a new one": ["c0/1a.jpg"], "a new name": ["c1/9.jpg"], "one less": []}


def resized(path):
    seen = path.stat()
    path.write_bytes(encoded(picture().resize((20, 30))))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_opened_again_and_nothing_else(root, opened, monkeypatch, change):
    check(root)
    CHANGES[change](root)
    opened.clear()
    found = check(root)[0]
    assert opened == OPENED[change]
    opened.clear()
    np.testing.assert_array_equal(check(root)[0], found)
    assert opened == []
    monkeypatch.setenv("DLTRAIN_CACHE", "off")
    np.testing.assert_array_equal(check(root)[0], found)


def test_a_bad_file_is_asked_again_and_good_ones_are_not(root, opened):
    write(root / "c0/bad.jpg", b"bad")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"c0/bad.jpg: it is not"):
            check(root, "error")
    assert opened == [*opened[:7], "c0/bad.jpg"]


def rewritten(change):
    """A cache whose digest is right and whose content is hostile."""

    def damage(path):
        body = bytearray(path.read_bytes()[64:])
        change(body)
        path.write_bytes(
            path.read_bytes()[:32] + hashlib.blake2b(body, digest_size=32).digest() + body
        )

    return damage


def number(place: int, value: int):
    def change(body):
        body[8 * place : 8 * place + 8] = value.to_bytes(8, "little", signed=True)

    return rewritten(change)


def kind(name: str, value: int):
    def change(body):
        kinds = np.frombuffer(body, KIND, 6, 8 + 6 * 24).copy()
        kinds[name][0] = value
        body[8 + 6 * 24 : 8 + 6 * 24 + kinds.nbytes] = kinds.tobytes()

    return rewritten(change)


def beyond(path):
    os.truncate(path, 8 << 30)


DAMAGES = {
    "nothing": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(random.Random(0).randbytes(5000)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "cut in its head": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "a flipped bit": lambda path: path.write_bytes(path.read_bytes()[:-9] + b"?" * 9),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link": lambda path: (path.rename(path.with_name("x")), path.symlink_to("x")),
    "without end": beyond,
    "a count of much": number(0, 2**62),
    "a count below zero": number(0, -1),
    "no count": number(0, 0),
    "names that end beyond": number(6, 10**6),
    "names that go back": number(2, 1),
    "names below zero": number(1, -5),
    "a height of zero": kind("height", 0),
    "a height below zero": kind("height", -4),
    "a width of much": kind("width", 2**31 - 1),
    "a format that is none": kind("format", 4),
    "a mode that is none": kind("mode", 7),
    "an orientation that is none": kind("orientation", 0),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_or_hostile_cache_is_made_anew(root, opened, name):
    expected = check(root)[0]
    path = cache_path(os.fsencode(root))
    DAMAGES[name](path)
    opened.clear()
    np.testing.assert_array_equal(check(root)[0], expected)
    assert len(opened) == 6
    if name != "a folder":
        opened.clear()
        check(root)
        assert opened == []


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/me")
    for variable in ("DLTRAIN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    name = cache_path(b"/data").name
    assert str(cache_path(b"/data")) == f"/home/me/.cache/dltrain/headers/{name}"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(cache_path(b"/data")) == f"/xdg/dltrain/headers/{name}"
    monkeypatch.setenv("DLTRAIN_CACHE", "/mine")
    assert str(cache_path(b"/data")) == f"/mine/headers/{name}"
    monkeypatch.setenv("DLTRAIN_CACHE", "off")
    assert cache_path(b"/data") is None
    monkeypatch.setenv("DLTRAIN_CACHE", "~/mine")
    assert str(cache_path(b"/data")) == f"/home/me/mine/headers/{name}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLTRAIN_CACHE", "here")
    assert str(cache_path(b"/data")) == f"{tmp_path}/here/headers/{name}"


def test_a_root_has_one_entry_however_it_is_reached(root, tmp_path):
    (tmp_path / "link").symlink_to("root")
    paths = {cache_path(os.fsencode(each)) for each in (root, tmp_path / "link", f"{root}/../root")}
    assert len(paths) == 1
    assert cache_path(os.fsencode(tmp_path)) not in paths


@pytest.mark.parametrize("where", ["off", "/proc/nowhere", "/dev/null"])
def test_it_works_without_a_cache(root, opened, monkeypatch, where):
    monkeypatch.setenv("DLTRAIN_CACHE", where)
    write(root / "c0/bad.jpg", b"bad")
    for _ in range(2):
        _, good, notes = check(root)
        assert good.sum() == 6
        (note,) = notes
        assert note.startswith("1 of 7 images are bad and left out\n  c0/bad.jpg: it is not a JP")
    assert len(opened) == 14


def test_it_does_not_grow_for_ever(root, monkeypatch, tmp_path):
    monkeypatch.setattr(header_cache, "_MAX_ENTRIES", 3)
    for number in range(5):
        check(write_tree(tmp_path / f"{number}", classes=1, images=1))
    assert len(list((tmp_path / "cache/headers").iterdir())) == 3


def test_two_at_once_leave_a_whole_file(root, monkeypatch):
    """The other finishes while this one checks; the last to write wins, and both are right."""
    files = scan_classes(os.fsencode(root)).files
    keep = checked_images.keep_kinds

    def late(path, *rest):
        monkeypatch.setattr(checked_images, "keep_kinds", keep)
        other = check(root)[0]
        keep(path, *rest)
        assert len(other) == 6

    monkeypatch.setattr(checked_images, "keep_kinds", late)
    check_images(root, files, on_bad_image="error", progress=None)
    folder = cache_path(os.fsencode(root)).parent
    assert [each.suffix for each in folder.iterdir()] == [".bin"]
