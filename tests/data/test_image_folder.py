"""Folders of images by class as datasets: splits, classes, what is said, what is refused."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from image_files import FACTS, encoded, picture, rotated, sixteen_bits, write, write_tree
from PIL import Image

from dltrain.data.image_folder import ImageFolder
from dltrain.data.listing import describe


def folder(root, **changes) -> ImageFolder:
    return ImageFolder(**FACTS | {"root": str(root), "num_test": 0.25} | changes)


def names(listing) -> list[str]:
    return list(listing.names)


def test_folders_of_splits_are_the_splits(tmp_path):
    write_tree(tmp_path, classes=2, train=3, val=2, test=1)
    found = folder(tmp_path).find()
    assert {split: len(each) for split, each in found.items()} == {"train": 6, "val": 4, "test": 2}
    assert names(found["val"]) == ["val/c0/0.jpg", "val/c0/1.jpg", "val/c1/0.jpg", "val/c1/1.jpg"]
    for split in found.values():
        assert split.root == tmp_path
        assert split.classes == ("c0", "c1")
        assert (split.targets.dtype, split.sizes.dtype) == (np.int64, np.int32)
        assert split.sizes.tolist() == [[5, 7]] * len(split)
        assert split.targets.tolist() == [int("c1/" in name) for name in split.names]


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_the_validation_set_has_three_names_and_a_test_set_may_be_missing(tmp_path, val):
    write_tree(tmp_path, **{"train": 2, val: 1})
    found = folder(tmp_path).find()
    assert [len(found[split]) for split in ("train", "val", "test")] == [6, 3, 0]


def test_without_a_folder_val_some_of_train_are_held_out(tmp_path):
    write_tree(tmp_path, classes=2, train=8, test=1)
    found = folder(tmp_path).find()
    assert [len(found[split]) for split in ("train", "val", "test")] == [12, 4, 2]
    assert all(name.startswith("train/") for name in names(found["val"]))
    assert np.bincount(found["val"].targets).tolist() == [2, 2]


def test_one_tree_is_split_by_class_and_seed(tmp_path):
    write_tree(tmp_path, classes=2, images=8)
    found = folder(tmp_path, num_val=4, num_test=0.125).find()
    assert [len(found[split]) for split in ("train", "val", "test")] == [10, 4, 2]
    everything = [name for split in found.values() for name in split.names]
    assert len(set(everything)) == 16
    for split in found.values():
        assert np.bincount(split.targets).tolist() == [len(split) // 2] * 2
        assert names(split) == sorted(names(split))
    again, other = (
        folder(tmp_path, num_val=4, num_test=2, split_seed=seed).find() for seed in (0, 1)
    )
    assert names(again["test"]) == names(found["test"])
    assert [names(other[split]) for split in other] != [names(found[split]) for split in found]


def test_everything_may_be_trained_on(tmp_path):
    found = folder(write_tree(tmp_path, classes=2), num_val=0, num_test=0).find()
    assert [len(found[split]) for split in ("train", "val", "test")] == [8, 0, 0]


def test_a_class_may_be_called_train(tmp_path):
    for name in ("plane", "ship", "train"):
        write(tmp_path / name / "0.jpg")
    assert folder(tmp_path).classes == ("plane", "ship", "train")
    write(tmp_path / "train" / "fast" / "1.jpg")
    write(tmp_path / "train" / "slow" / "1.jpg")
    assert folder(tmp_path).classes == ("fast", "slow")


def test_classes_may_be_missing_in_val_and_are_numbered_as_in_train(tmp_path):
    write_tree(tmp_path, classes=3, train=1)
    write(tmp_path / "val" / "c2" / "0.jpg")
    (tmp_path / "val" / "c0").mkdir()
    (tmp_path / "val" / "zzz").mkdir()  # empty
    assert folder(tmp_path).find()["val"].targets.tolist() == [2]


def test_a_test_set_without_labels_is_not_used_and_that_is_said(tmp_path):
    write_tree(tmp_path, train=1, val=1)
    write(tmp_path / "test" / "1.jpg")
    data = folder(tmp_path)
    assert len(data.find()["test"]) == 0
    assert data.notes == ["test has no class folders and is not used"]


def test_the_facts_come_from_a_look_at_the_folder(tmp_path):
    for classes, splits in ((5, {"train": 1, "val": 1}), (4, {})):
        root = write_tree(tmp_path / f"{classes}", classes=classes, images=1, **splits)
        assert ImageFolder.read_facts(root=str(root)) == {"num_classes": classes}
        data = folder(root, num_val=0, num_test=0)
        assert data.num_classes == len(data.classes) == classes
        assert data.find()["train"].classes == data.classes


def test_odd_names_of_classes_are_shown_as_text(tmp_path):
    for name in ("\udcff", "ä 一"):
        write(tmp_path / name / "0.jpg")
    found = folder(tmp_path, num_val=0, num_test=0).find()["train"]
    assert found.classes == ("ä 一", r"\xff")
    assert all((tmp_path / name).exists() for name in found.names)


def test_what_was_found_is_said(tmp_path):
    write_tree(tmp_path, classes=2, train=2, val=1)
    contents = [encoded(picture("L")), encoded(picture("CMYK")), rotated(6), rotated(1)]
    contents += [
        encoded(picture("LA"), "PNG"),
        sixteen_bits(np.zeros((9, 9))),
        encoded(picture("L")),
    ]
    for number, content in enumerate(contents):
        write(tmp_path / "train" / "c0" / f"x{number}.png", content)
    write(tmp_path / "train" / "c0" / "notes.txt")
    data = folder(tmp_path)
    train = data.find()["train"]
    said = "2 grayscale, 1 16-bit, 1 alpha, 1 CMYK, 1 rotated by EXIF"
    assert data.notes == [said, "1 files that are no images left out"]
    assert describe(train.kinds) == said
    assert describe(train.kinds[:2]) == ""
    assert train.sizes[4].tolist() == [7, 5]  # on its side


@pytest.mark.parametrize(("size", "hint"), [(9, False), (17, False), (18, True), (224, True)])
def test_most_images_smaller_than_what_the_network_sees_is_a_hint(tmp_path, size, hint):
    """Of the training set; the shorter side counts, and one large image changes nothing."""
    sides = [(9, 30), (20, 9), (9, 9), (300, 300)]
    for number, (height, width) in enumerate(sides):
        content = encoded(Image.new("RGB", (width, height)))
        for place in ("train/c0", "train/c1", "val/c0"):
            write(tmp_path / place / f"{number}.png", content)
    data = folder(tmp_path, size=size, image_shape=[3, size, size])
    data.find()
    said = f"far smaller than dataset.size={size} and are enlarged: half of them have a shorter"
    assert any(said in note for note in data.notes) == hint
    assert any("dataset.size=9 is faster" in note for note in data.notes) == hint


def test_progress_counts_images(tmp_path):
    write_tree(tmp_path, classes=2, images=3)
    seen = []
    folder(tmp_path).find(lambda *each: seen.append(each))
    assert [each[1:] for each in seen] == [(6, 6)]
    assert seen[0][0].endswith("images")


# ---------------------------------------------------------------------- bad images


def test_bad_images_are_an_error_that_names_the_first(tmp_path):
    write_tree(tmp_path, classes=2, images=3)
    for number in range(9):
        write(tmp_path / "c0" / f"bad{number}.jpg", b"")
    with pytest.raises(ValueError, match=r"9 of the 15 images in .* cannot be used") as caught:
        folder(tmp_path).find()
    lines = str(caught.value).splitlines()
    assert "`dataset.on_bad_image=skip`" in lines[0]
    assert lines[1:] == [f"  c0/bad{number}.jpg: it is empty" for number in range(5)]


def test_bad_images_can_be_left_out_and_are_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("DLTRAIN_CACHE", str(tmp_path / "cache"))
    root = write_tree(tmp_path / "root", classes=2, train=3, val=1)
    for split in ("train", "val"):
        write(root / split / "c0" / "00\n.jpg", b"")
    data = folder(root, on_bad_image="skip")
    for _ in range(2):
        found = data.find()
        assert [len(found[split]) for split in ("train", "val")] == [6, 2]
        assert found["train"].targets.tolist() == [0, 0, 0, 1, 1, 1]
        assert not any("\n" in name for name in names(found["train"]) + names(found["val"]))
        (note,) = data.notes
        head, _, path = note.partition(": ")
        assert head == "2 of 10 images are bad and left out"
        with open(path, encoding="utf-8") as file:
            listed = file.read().splitlines()
        assert listed == [f"  {split}/c0/00?.jpg: it is empty" for split in ("train", "val")]


def test_a_class_of_bad_images_alone_is_an_error(tmp_path):
    write_tree(tmp_path, classes=2, images=3)
    write(tmp_path / "c2" / "0.jpg", b"")
    with pytest.raises(ValueError, match="no image to train on is left of c2\nexpected one"):
        folder(tmp_path, on_bad_image="skip").find()


# ---------------------------------------------------------------------- what is refused


def one_class(root):
    write(root / "c0" / "0.jpg")


def linked_splits(root):
    write_tree(root, classes=2, train=1, val=1, test=1)
    shutil.rmtree(root / "test" / "c1")
    (root / "test" / "c1").symlink_to("../train/c0")


def wrapped(root):
    write_tree(root / "photos", classes=2, images=1)


def alien(root):
    write_tree(root, classes=2, train=1, val=1)
    write(root / "val" / "C1" / "0.jpg")


def two_vals(root):
    write_tree(root, train=1, val=1, valid=1)


def no_train(root):
    write_tree(root, test=1, val=1)


REFUSED = {
    "nothing": (lambda root: None, "there is nothing; expected a folder of images by class"),
    "a file": (lambda root: root.write_bytes(b""), "it is a file; expected a folder"),
    "empty": (lambda root: root.mkdir(), "no class folder\nexpected one folder for each class"),
    "one class": (one_class, "one class folder alone, c0\nexpected at least two to tell apart$"),
    "one class below train": (
        lambda root: (write(root / "train" / "c0" / "0.jpg"), write(root / "val" / "c0" / "1.jpg")),
        "one class folder alone, c0\nexpected at least two to tell apart$",
    ),
    "a class of test that is one of train": (
        linked_splits,
        "the same folder as .*train/c0",
    ),
    "one level too high": (wrapped, "tell apart; is `dataset.root=.*/root/photos` meant"),
    "a class in val alone": (alien, "classes in val that are not in train: C1\nexpected"),
    "two validation sets": (two_vals, "it has val, valid; expected one folder"),
    "no training set": (no_train, "it has test, val and no train; expected train"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_folder_is_refused(tmp_path, name):
    make, message = REFUSED[name]
    root = tmp_path / "root"
    make(root)
    with pytest.raises(ValueError, match=message) as caught:
        folder(root).find()
    assert str(root) in str(caught.value)
    assert str(caught.value).count("\n") < 6
    # What a look at one folder does not see
    if name not in ("a class in val alone", "a class of test that is one of train"):
        with pytest.raises(ValueError, match=message):
            ImageFolder.read_facts(root=str(root))


def test_a_number_of_classes_that_is_not_there_is_refused(tmp_path):
    write_tree(tmp_path, classes=3)
    with pytest.raises(
        ValueError, match=r"3 class folders, but dataset\.num_classes is 10; choose"
    ):
        folder(tmp_path, num_classes=10).find()
    assert folder(tmp_path, num_classes=3).find()


def test_more_cannot_be_held_out_than_there_is(tmp_path):
    write_tree(tmp_path, classes=2, images=4)
    with pytest.raises(ValueError, match=r"num_val 5 and dataset\.num_test 3 leave none of the 8"):
        folder(tmp_path, num_val=5, num_test=3).find()


@pytest.mark.parametrize(
    "changes",
    [
        {"num_val": -1},
        {"num_val": 1.0},
        {"num_test": -0.1},
        {"num_test": float("nan")},
        {"num_test": True},
        {"split_seed": -1},
        {"num_classes": 0},
        {"num_classes": "many"},
        {"size": 9},
        {"image_shape": [1, 8, 8]},
        {"crop_fraction": 0},
        {"crop_fraction": 1.1},
        {"on_bad_image": "ignore"},
        {"mean": [0.5, 0.5]},
        {"std": [0]},
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_by_their_key(tmp_path, changes):
    (key,) = changes
    key = "image_shape" if key == "size" else key
    with pytest.raises(ValueError, match=rf"^dataset\.{key} is "):
        folder(tmp_path, **changes)


def test_torch_is_not_needed_to_look_through_a_folder(tmp_path):
    write_tree(tmp_path, classes=2, images=3)
    arguments = FACTS | {"root": str(tmp_path), "num_test": 0}
    code = (
        "import sys; from dltrain.data import headers, image_folder\n"
        "headers._FILES_PER_WORKER, headers._num_cores = 1, lambda: 2\n"  # in forks, too
        f"image_folder.ImageFolder(**{arguments}).load()\n"
        "print(*sorted({'torch', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")
