"""A tree of image files: the same order everywhere, links followed, every dead end named."""

import os
import random

import numpy as np
import pytest
from image_files import write, write_tree

from dltrain.data.folder_scan import scan_classes, scan_flat

WORDS = ["b", "a", "a b", "B", "ä", "一", "a-1", "10", "9", "x" * 240, "😀", "\udcff"]


def scan(root, within: bytes = b"", **options):
    return scan_classes(os.fsencode(root), within, **options)


def names(found) -> list[str]:
    return list(found.files.names)


def test_the_order_is_that_of_code_points_and_of_no_file_system(tmp_path):
    for shuffle in range(2):
        words = random.Random(shuffle).sample(WORDS, len(WORDS))
        for word in words:
            for other in words[:3]:
                write(tmp_path / str(shuffle) / word / f"{other}.jpg", b"1")
    first, second = scan(tmp_path / "0"), scan(tmp_path / "1")
    assert first.classes == second.classes == sorted(os.fsencode(word) for word in WORDS)
    for found in (first, second):
        pairs = list(zip(found.files.targets.tolist(), names(found), strict=True))
        assert pairs == sorted(pairs, key=lambda pair: (pair[0], os.fsencode(pair[1])))


def test_a_file_is_found_under_the_name_that_it_has(tmp_path):
    odd = ["a b.jpg", "ü.PNG", "x.tar.JPeG", "\udcff\udc80.webp", "-rf.bmp", "a\nb.jpg", "#%.jpg"]
    for name in odd:
        write(tmp_path / "c" / name, name.encode(errors="surrogateescape"))
    found = scan(tmp_path)
    assert sorted(names(found)) == sorted(f"c/{name}" for name in odd)
    for place, name in enumerate(found.files.names):
        assert (tmp_path / name).read_bytes() == os.fsencode(name)[2:]
        assert found.files.num_bytes[place] == (tmp_path / name).stat().st_size
        assert found.files.mtime_ns[place] == (tmp_path / name).stat().st_mtime_ns


def test_targets_are_the_places_of_the_classes_and_folders_may_lie_in_them(tmp_path):
    for name in ("cat/1.jpg", "cat/more/2.jpg", "cat/more/still/3.jpg", "dog.jpg/x.jpg"):
        write(tmp_path / name)
    found = scan(tmp_path)
    assert found.classes == [b"cat", b"dog.jpg"]
    assert names(found) == ["cat/1.jpg", "cat/more/2.jpg", "cat/more/still/3.jpg", "dog.jpg/x.jpg"]
    assert found.files.targets.tolist() == [0, 0, 0, 1]
    assert found.files.targets.dtype == np.int64


def test_litter_is_left_out_and_counted(tmp_path):
    write_tree(tmp_path, classes=1, images=1)
    litter = [".DS_Store", "c0/._0.jpg", "c0/Thumbs.db", "c0/a.txt", "c0/.git/x.jpg", "c0/jpg"]
    for name in [*litter, "__MACOSX/c0/0.jpg", "README", "c0/@eaDir/0.jpg", ".hidden/0.jpg"]:
        write(tmp_path / name)
    found = scan(tmp_path)
    assert names(found) == ["c0/0.jpg"]
    assert found.num_left_out == 10


def test_links_to_files_and_folders_are_followed(tmp_path):
    write(tmp_path / "elsewhere" / "a.jpg", b"12345")
    write(tmp_path / "root" / "cat" / "1.jpg")
    (tmp_path / "root" / "cat" / "2.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    (tmp_path / "root" / "dog").symlink_to(tmp_path / "elsewhere")
    found = scan(tmp_path / "root")
    assert names(found) == ["cat/1.jpg", "cat/2.jpg", "dog/a.jpg"]
    assert found.files.num_bytes[1:].tolist() == [5, 5]


def links(root, *pairs: tuple[str, str]) -> None:
    for name, target in pairs:
        (root / name).symlink_to(target)


def many_links(root) -> None:
    """Twenty folders with two links to the next each: a million ways through them."""
    for number in range(20):
        (root / f"c0/{number}").mkdir()
        links(root, (f"c0/{number}/a", f"../{number + 1}"), (f"c0/{number}/b", f"../{number + 1}"))
    (root / "c0/20").mkdir()


DEAD_ENDS = {
    "a link to its own folder": (lambda r: links(r, ("c0/loop", ".")), "c0/loop: it leads to a li"),
    "a link to the root": (lambda r: links(r, ("c1/up", "..")), "c1/up: it leads to a link back"),
    "a loop of two": (
        lambda r: links(r, ("c0/there", "../c1"), ("c1/back", "../c0")),
        "it leads to",
    ),
    "a class twice": (lambda r: links(r, ("c9", "c0")), "c9: it leads to the same folder as .*c0;"),
    "a bomb of links": (many_links, "the same folder as"),
    "a class that is a dead link": (lambda r: links(r, ("c9", "gone")), "c9: it is a link to not"),
    "a class that is its own link": (lambda r: links(r, ("c9", "c9")), "c9: it is a link to noth"),
    "a folder that is a dead link": (lambda r: links(r, ("c0/x", "gone")), "c0/x: it is a link t"),
    "images beside the classes": (
        lambda r: [write(r / f"{n}.jpg") for n in range(9)],
        "9 images beside the class folders: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 4 more",
    ),
    "a class without an image": (lambda r: (r / "empty").mkdir(), "without an image: empty\n"),
    "a class of texts": (lambda r: write(r / "t/a.txt"), "class folders without an image: t\n"),
    "folders without end": (
        lambda r: write(r / "c0" / "/".join("d" * 70) / "a.jpg"),
        "nested more than 64 deep",
    ),
    "a name of control characters": (lambda r: (r / "\x1b[31m\n").mkdir(), r"image: \?\[31m\?\n"),
    "a name that is no UTF-8": (lambda r: (r / "\udcff").mkdir(), r"without an image: \?\n"),
}


@pytest.mark.parametrize("name", DEAD_ENDS)
def test_a_dead_end_is_named(tmp_path, name):
    make, message = DEAD_ENDS[name]
    root = write_tree(tmp_path / "root", classes=2, images=1)
    make(root)
    with pytest.raises(ValueError, match=message) as caught:
        scan(root)
    text = str(caught.value)
    assert str(root) in text
    assert "expected" in text
    assert text.count("\n") < 6
    text.encode()  # fit for a screen


@pytest.mark.parametrize("name", ["nothing in it", "hidden things alone", "images alone"])
def test_a_root_without_classes_is_refused(tmp_path, name):
    if name != "nothing in it":
        write(tmp_path / (".x/a.jpg" if name.startswith("hidden") else "a.jpg"))
    found = "1 images and no class folder" if name == "images alone" else "no class folder"
    with pytest.raises(ValueError, match=f"{found}\nexpected one folder for each class"):
        scan(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_forbidden_folder_is_named(tmp_path):
    root = write_tree(tmp_path, classes=2, images=1)
    (root / "c1").chmod(0)
    try:
        with pytest.raises(ValueError, match="c1: you may not read it"):
            scan(root)
    finally:
        (root / "c1").chmod(0o755)


def test_a_link_to_nothing_with_the_name_of_an_image_is_listed_as_one(tmp_path):
    """It is a bad image, which can be left out: so look those that git-annex has not fetched."""
    write_tree(tmp_path, classes=1, images=1)
    links(tmp_path, ("c0/gone.jpg", "nowhere"), ("c0/self.jpg", "self.jpg"), ("c0/x.txt", "no"))
    found = scan(tmp_path)
    assert names(found) == ["c0/0.jpg", "c0/gone.jpg", "c0/self.jpg"]
    assert found.files.num_bytes[1:].tolist() == [-1, -1]


def test_an_empty_class_may_be_allowed(tmp_path):
    write(tmp_path / "val" / "b" / "0.jpg")
    (tmp_path / "val" / "a").mkdir()
    found = scan(tmp_path, b"val", empty_is_error=False)
    assert (found.classes, names(found)) == ([b"a", b"b"], ["val/b/0.jpg"])
    assert found.files.targets.tolist() == [1]


def test_a_flat_folder_gives_its_own_images_alone(tmp_path):
    for name in ("v/2.JPEG", "v/1.JPEG", "v/x/3.JPEG", "v/.1.JPEG", "v/a.txt"):
        write(tmp_path / name)
    assert list(scan_flat(os.fsencode(tmp_path), b"v").names) == ["v/1.JPEG", "v/2.JPEG"]
