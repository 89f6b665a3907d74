"""ImageNet as it is published, in miniature: where its classes and their words are found."""

import io
import struct
import zlib

import numpy as np
import pytest
from data_files import peak_memory
from image_files import FACTS, write, write_tree
from malformed_bytes import cut, replaced
from scipy.io import savemat

from dltrain.data.imagenet import ImageNet
from dltrain.data.synsets import META, SOLUTION, TRUTH, WORDS, read_synsets

DEVKIT = "ILSVRC2012_devkit_t12/data"
WNIDS = ["n01440764", "n02012849", "n03126707"]
SYNSETS = [  # in an order of its own, as in the kit; the last is no class of the challenge
    (3, "n01440764", "tench, Tinca tinca"),
    (1, "n03126707", "crane"),
    (2, "n02012849", "crane"),
    (1001, "n00001740", "entity"),
]
TRUE = [3, 3, 1, 2, 1, 3]  # of the validation images 1 to 6
TARGETS = [0, 0, 0, 1, 2, 2]  # in the order of the listing


def imagenet(root, **changes) -> ImageNet:
    return ImageNet(**FACTS | {"root": str(root), "num_val": 0} | changes)


def mat(*, compressed: bool = True, **content: object) -> bytes:
    file = io.BytesIO()
    savemat(file, {"other": np.eye(3)} | content, do_compression=compressed)
    return file.getvalue()


def meta(synsets=SYNSETS, *, compressed: bool = True) -> bytes:
    """As the kit has it: an array [N, 1] of structs with numbers, texts and arrays."""
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("gloss", object)]
    table = np.zeros((len(synsets), 1), dtype=[*fields, ("children", object)])
    for row, (number, wnid, words) in enumerate(synsets):
        children = np.arange(row, dtype=np.float64)
        table[row, 0] = (float(number), wnid, words, "something" * row, children)
    return mat(synsets=table, compressed=compressed)


@pytest.fixture
def root(tmp_path):
    """Training images by class, and six validation images beside each other."""
    for wnid in WNIDS:
        for number in range(4):
            write(tmp_path / "train" / wnid / f"{wnid}_{number}.JPEG")
    for number in range(1, 7):
        write(tmp_path / "val" / f"ILSVRC2012_val_{number:08}.JPEG")
    return tmp_path


def add_devkit(root, content: bytes | None = None, folder: str = DEVKIT) -> None:
    write(root / folder / META, meta() if content is None else content)
    write(root / folder / TRUTH, "".join(f"{number}\n" for number in TRUE).encode())


def add_kaggle(root) -> None:
    wnids = {number: wnid for number, wnid, _ in SYNSETS}
    rows = [f"ILSVRC2012_val_{i:08},{wnids[n]} 1 2 3 4 \n" for i, n in enumerate(TRUE, start=1)]
    write(root / SOLUTION, ("ImageId,PredictionString\n" + "".join(reversed(rows))).encode())
    words = sorted((wnid, words) for _, wnid, words in SYNSETS[:3])
    write(root / WORDS, "".join(f"{wnid} {text}\n" for wnid, text in words).encode())


@pytest.mark.parametrize("add", [add_devkit, add_kaggle, lambda r: add_devkit(r, folder="data")])
def test_a_flat_validation_set_has_its_published_classes(root, add):
    add(root)
    found = imagenet(root).find()
    assert found["test"].targets.tolist() == TARGETS
    assert [int(name[-13:-5]) for name in found["test"].names] == [1, 2, 6, 4, 3, 5]
    assert found["train"].targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    words = ("tench", "crane (n02012849)", "crane (n03126707)")
    assert found["train"].classes == imagenet(root).classes == words


@pytest.mark.parametrize("below", ["", "ILSVRC/Data/CLS-LOC"])
def test_a_validation_set_by_class_needs_no_other_file(tmp_path, below):
    for wnid in WNIDS:
        write(tmp_path / below / "train" / wnid / "0.JPEG")
    write(tmp_path / below / "val" / WNIDS[1] / "0.JPEG")
    found = imagenet(tmp_path).find()
    assert found["test"].targets.tolist() == [1]
    assert found["train"].classes == tuple(WNIDS)
    assert ImageNet.read_facts(root=str(tmp_path)) == {"num_classes": 3}


def test_kaggles_archive_is_read_as_it_unpacks(root, tmp_path):
    kaggle = tmp_path / "kaggle"
    (kaggle / "ILSVRC/Data/CLS-LOC").mkdir(parents=True)
    for split in ("train", "val"):
        (root / split).rename(kaggle / "ILSVRC/Data/CLS-LOC" / split)
    write(kaggle / "ILSVRC/Data/CLS-LOC/test/ILSVRC2012_test_00000001.JPEG")
    add_kaggle(kaggle)
    assert imagenet(kaggle).find()["test"].targets.tolist() == TARGETS


def test_the_published_images_are_val_and_test_unless_some_of_train_are_held_out(root):
    add_kaggle(root)
    found = imagenet(root).find()
    assert list(found["val"].names) == list(found["test"].names)
    assert len(found["train"]) == 12
    held_out = imagenet(root, num_val=3).find()
    assert [len(held_out[split]) for split in ("train", "val", "test")] == [9, 3, 6]
    assert held_out["val"].targets.tolist() == [0, 1, 2]
    assert all(name.startswith("train/") for name in held_out["val"].names)


# ---------------------------------------------------------------------- what is refused


def test_how_to_get_it_is_said(tmp_path):
    for root in (tmp_path / "gone", tmp_path):
        for ask in (imagenet(root).find, lambda root=root: ImageNet.read_facts(root=str(root))):
            with pytest.raises(FileNotFoundError, match=r"register at image-net.org") as caught:
                ask()
            assert str(root) in str(caught.value)
            assert str(caught.value).count("\n") < 6


def test_a_flat_validation_set_without_its_classes_says_what_is_needed(root):
    with pytest.raises(ValueError, match=r"expected val/nXXXXXXXX/.*\n.*devkit_t12.*LOC_val_sol"):
        imagenet(root).find()


@pytest.mark.parametrize("name", ["ILSVRC2012_val_00000007.JPEG", "holiday.jpg"])
def test_a_validation_image_of_no_class_is_named(root, name):
    add_kaggle(root)
    write(root / "val" / name)
    with pytest.raises(ValueError, match=f"without a class of train: {name.partition('.')[0]}"):
        imagenet(root).find()


def test_a_class_that_train_lacks_is_refused(root):
    add_kaggle(root)
    (root / "train" / WNIDS[2]).rename(root / "train" / "n99999999")
    with pytest.raises(ValueError, match="val without a class of train: ILSVRC2012_val_00000003"):
        imagenet(root).find()


def test_an_empty_validation_set_is_refused(tmp_path):
    write_tree(tmp_path, train=1)
    (tmp_path / "val").mkdir()
    with pytest.raises(ValueError, match="no image in val"):
        imagenet(tmp_path).find()


@pytest.mark.parametrize("line", ["0", "1002", "-1", "x", "１", "1" * 99])
def test_a_class_number_that_does_not_exist_is_refused(root, line):
    add_devkit(root)
    (root / DEVKIT / TRUTH).write_text(f"3\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"{TRUTH}: its line 2 is"):
        imagenet(root).find()


GOOD = meta()
PLAIN = meta(compressed=False)


@pytest.mark.parametrize("content", [GOOD, PLAIN])
def test_the_synsets_are_those_of_the_kit(tmp_path, content):
    assert read_synsets(write(tmp_path / META, content)) == SYNSETS


def bomb() -> bytes:
    packed = zlib.compress(bytes(64 << 20))
    return GOOD[:128] + struct.pack("<II", 15, len(packed)) + packed


def endless_count() -> bytes:
    """A struct array of two billion elements, none of which is there."""
    place = PLAIN.index(struct.pack("<II2i", 5, 8, 4, 1))
    return PLAIN[: place + 8] + struct.pack("<2i", 2**31 - 1, 1) + PLAIN[place + 16 :]


def endless_nothing() -> bytes:
    """Two billion structs without a field: nothing is missing."""
    place = PLAIN.index(struct.pack("<II2i", 5, 8, 4, 1))
    shape, name = struct.pack("<II2i", 5, 8, 2**31 - 1, 1), struct.pack("<II8s", 1, 7, b"synsets")
    body = PLAIN[place - 16 : place] + shape + name + struct.pack("<IIII", 0x40005, 1, 1, 0)
    return PLAIN[:128] + struct.pack("<II", 14, len(body)) + body


HOSTILE = {
    **{f"{name} in its place": content for name, content in replaced(GOOD).items()},
    **{f"plain, {n}": c for n, c in cut(PLAIN, 1, 100, 128, 136, 300, 700, -200, -9).items()},
    **{f"packed, {n}": c for n, c in cut(GOOD, 1, 100, 128, 136, 300, -20, -9, -4, -1).items()},
    "a bomb": bomb(),
    "endless count": endless_count(),
    "endless nothing": endless_nothing(),
    "no synsets": mat(),
    "no wnid": meta([(1, "", "entity")]),
    "a path for a wnid": meta([(1, "../../etc", "entity")]),
    "numbers for words": meta(synsets=[(1, "n00001740", 3.0)]),
    "half a number": meta([(1.5, "n00001740", "entity")]),
    "synsets of numbers": mat(synsets=np.eye(4)),
}
WHOLE = ("byte more", "line more", "twice", "with more")  # what follows is not looked at


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_or_damaged_meta_is_refused(tmp_path, name):
    path = write(tmp_path / META, HOSTILE[name])
    if name.endswith(WHOLE):
        assert read_synsets(path) == SYNSETS
        return
    with peak_memory(100 << 20), pytest.raises(ValueError, match=r"expected the meta.mat"):
        read_synsets(path)


def test_no_change_of_a_byte_does_harm(tmp_path):
    path = tmp_path / META
    random = np.random.RandomState(0)
    for _ in range(300):
        content = bytearray(PLAIN)
        for place in random.randint(128, len(content), 3):
            content[place] = random.randint(256)
        path.write_bytes(content)
        try:
            found = read_synsets(path)
        except ValueError:
            continue
        assert all(isinstance(number, int) for number, _, _ in found)
