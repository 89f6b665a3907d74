"""Packed sets: the same images as the folder's, in any hands, and nothing relied on unchecked."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from photos import make_folder, write_photo

from dltrain.data.fingerprint import digest
from dltrain.data.image_folder import ImageFolder
from dltrain.data.packed import Packed, PackedShelf
from dltrain.data.packed_layout import MANIFEST, PROGRESS, ROW, read_manifest, verify
from dltrain.data.packing import pack
from dltrain.data.packing_plan import Facts, make_plan, stored_sizes
from dltrain.data.pictures import resize
from dltrain.data.randomness import Draws
from dltrain.data.resized_crop import RandomResizedCrop
from dltrain.data.streamed import StreamedLoader

SIZE = 16
FACTS = {
    "num_classes": "auto",
    "size": SIZE,
    "image_shape": [3, SIZE, SIZE],
    "crop_fraction": 0.875,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "decode": "exact",
}
LOADING = {"batch_size": 5, "mean": FACTS["mean"], "std": FACTS["std"], "device": "cpu"}
CROP = RandomResizedCrop(size=None, scale=[0.08, 1.0], ratio=[0.75, 4 / 3])


def folder(root, on_bad_image="error"):
    return ImageFolder(
        root=str(root), **FACTS, num_val=0, num_test=0, split_seed=0, on_bad_image=on_bad_image
    )


def packed(root, *, verify=False, **changed):
    return Packed(
        root=str(root), **FACTS | {"mean": "auto", "std": "auto"} | changed, verify=verify
    )


def plan_of(dataset, store="files", side=20, shard_bytes=1 << 30):
    facts = Facts(dataset.num_classes, dataset.classes, dataset.mean, dataset.std)
    return make_plan(dataset.load(), facts, store=store, side=side, shard_bytes=shard_bytes)


def make_set(source, out, store="files", shard_bytes=40_000, **options):
    out.mkdir(exist_ok=True)
    plan = plan_of(folder(source), store, shard_bytes=shard_bytes)
    return pack(plan, out, **{"num_workers": 0, "skip": False} | options)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("packed") / "photos")


@pytest.fixture(scope="module", params=["files", "uint8"])
def both(request, photos, tmp_path_factory):
    """A packed set of several shards, and its store. Not to be changed."""
    out = tmp_path_factory.mktemp(request.param) / "set"
    make_set(photos, out, request.param)
    return out, request.param


@pytest.fixture
def copy(both, tmp_path):
    """A packed set that may be damaged."""
    return shutil.copytree(both[0], tmp_path / "set")


def batches(split, num_workers, **options):
    loader = StreamedLoader(
        split.inputs,
        torch.from_numpy(split.targets),
        num_workers=num_workers,
        augmentations=[CROP],
        shuffle=True,
        seed=3,
        **LOADING | options,
    )
    try:
        return [
            [each.clone() for each in batch] for epoch in (0, 1) for batch in loader.epoch(epoch)
        ]
    finally:
        loader.close()


# ---------------------------------------------------------------------- what is read


@pytest.mark.parametrize("num_workers", [0, 2])
def test_files_give_the_batches_of_the_folder_to_the_bit(photos, tmp_path, num_workers):
    make_set(photos, tmp_path / "set")
    expected = batches(folder(photos).load()["train"], 0)
    found = batches(packed(tmp_path / "set").load()["train"], num_workers)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert all(map(torch.equal, one, other))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_split_has_its_images_labels_and_sizes(both, photos, split):
    root, store = both
    original, found = folder(photos).load()[split], packed(root).load()[split]
    assert np.array_equal(found.targets, original.targets)
    sizes = original.inputs.sizes
    assert np.array_equal(
        found.inputs.sizes, stored_sizes(sizes, 20) if store == "uint8" else sizes
    )
    for index in range(len(found.targets)):
        image = original.inputs.shelf.load(index, shrink=1, exact=True)
        if store == "uint8":
            image = resize(image, *found.inputs.sizes[index].tolist())
        assert np.array_equal(found.inputs.shelf.load(index, shrink=1, exact=True), image)


def test_the_set_knows_its_classes_and_the_numbers_to_normalise_by(both, photos):
    dataset, original = packed(both[0]), folder(photos)
    assert dataset.classes == original.classes
    assert (dataset.num_classes, dataset.mean, dataset.std) == (3, original.mean, original.std)
    other = packed(both[0], mean=[0.5], num_classes=7)
    assert (other.num_classes, other.mean, other.std) == (7, (0.5,), original.std)


def test_an_image_is_named_as_its_folder_had_it(tmp_path):
    name = b"caf\xe9 \n 1.jpg"  # no UTF-8
    for index in (0, 1):
        path = write_photo(tmp_path / "photos" / "train" / "a b" / f"{index}.jpg", 20, 20)
        write_photo(tmp_path / "photos" / "train" / "c" / "0.jpg", 20, 20)
        write_photo(tmp_path / "photos" / "val" / "c" / "0.jpg", 20, 20)
    os.rename(path, os.path.join(os.fsencode(path.parent), name))
    make_set(tmp_path / "photos", tmp_path / "set")
    shelf = packed(tmp_path / "set").load()["train"].inputs.shelf
    assert [os.fsencode(shelf.name(index)) for index in (0, 1)] == [
        b"train/a b/0.jpg",
        b"train/a b/" + name,
    ]
    assert shelf.describe(0) == f"{tmp_path / 'set'}: train image train/a b/0.jpg"


def test_pixels_are_a_view_of_the_file_and_nobody_can_write_them(photos, tmp_path):
    make_set(photos, tmp_path / "set", "uint8")
    shelf = packed(tmp_path / "set").load()["train"].inputs.shelf
    first, again = (shelf.load(3, shrink=1, exact=True) for _ in range(2))
    assert np.shares_memory(first, again)
    assert not first.flags.writeable
    out = np.empty((SIZE, SIZE, 3), np.uint8).transpose(2, 0, 1)
    packed(tmp_path / "set").load()["train"].inputs.read(3, out, 0, 0, 20, 20)  # torch would warn


def test_nothing_is_enlarged_and_the_shorter_side_is_the_one_that_is_given():
    sizes = np.array([[10, 30], [20, 20], [40, 30], [41, 123], [375, 500]], np.int32)
    expected = [[10, 30], [20, 20], [26, 20], [20, 60], [20, 26]]
    assert stored_sizes(sizes, 20).tolist() == expected


def test_epochs_leave_no_descriptor_behind(both):
    before = len(os.listdir("/dev/fd"))
    split = packed(both[0]).load()["train"]
    while_open = len(os.listdir("/dev/fd"))
    batches(split, 2)
    assert len(os.listdir("/dev/fd")) == while_open
    del split
    assert len(os.listdir("/dev/fd")) == before


def test_splits_of_the_same_images_are_stored_once(photos, tmp_path):
    splits = folder(photos).load()
    (tmp_path / "set").mkdir()
    facts = Facts(3, ("a", "b", "c"), (0.5,), (0.5,))
    plan = make_plan(
        splits | {"test": splits["val"]}, facts, store="files", side=1, shard_bytes=1 << 30
    )
    pack(plan, tmp_path / "set", num_workers=0, skip=False)
    found = packed(tmp_path / "set").load()
    assert np.array_equal(found["test"].targets, found["val"].targets)
    assert not list((tmp_path / "set").glob("test*"))


# ---------------------------------------------------------------------- what is not relied on


def test_a_fingerprint_is_of_the_images_however_they_are_packed(photos, copy, both, tmp_path):
    found = digest(*packed(copy).load()["train"])
    make_set(photos, tmp_path / "other", both[1], shard_bytes=1 << 30)
    assert digest(*packed(tmp_path / "other").load()["train"]) == found
    names = (copy / "train.names").read_bytes()
    assert names.endswith(b".jpg")
    (copy / "train.names").write_bytes(names[:-1] + b"G")
    assert digest(*packed(copy).load()["train"]) != found


def change_manifest(root, change):
    data = json.loads((root / MANIFEST).read_text())
    change(data)
    (root / MANIFEST).write_text(json.dumps(data))


def set_row(root, field, value):
    rows = np.fromfile(root / "train.index", ROW)
    rows[5][field] = value
    (root / "train.index").write_bytes(rows.tobytes())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("offset", -1),
        ("offset", 1 << 62),
        ("num_bytes", 0),
        ("num_bytes", 1 << 62),
        ("num_bytes", -5),
        ("shard", 99),
        ("shard", -1),
        ("height", 0),
        ("height", 1 << 30),
        ("width", -7),
        ("target", 3),
        ("target", -1),
    ],
)
def test_a_row_that_leads_elsewhere_is_refused(copy, field, value):
    set_row(copy, field, value)
    with pytest.raises(ValueError, match=r"train\.index: row 5 does not describe an image within"):
        packed(copy).load()


@pytest.mark.parametrize(("field", "value"), [("num_bytes", 5), ("height", 3), ("width", 2000)])
def test_pixels_have_as_many_bytes_as_their_size_says(photos, tmp_path, field, value):
    make_set(photos, tmp_path / "set", "uint8")
    set_row(tmp_path / "set", field, value)
    with pytest.raises(ValueError, match=r"train\.index: row 5 does not describe an image within"):
        packed(tmp_path / "set").load()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(format="tar"),
        lambda data: data.update(version=2),
        lambda data: data.update(store="pickle"),
        lambda data: data.update(num_classes=0),
        lambda data: data.update(num_classes=True),
        lambda data: data.update(std=[0.0]),
        lambda data: data.update(files=[]),
        lambda data: data.pop("splits"),
        lambda data: data["splits"].pop("val"),
        lambda data: data["splits"]["train"].update(num_samples=-1),
        lambda data: data["splits"]["train"].update(num_samples=1e9),
        lambda data: data["splits"]["train"].update(num_samples=10**9),
        lambda data: data["splits"]["train"].update(index="../train.index"),
        lambda data: data["splits"]["train"].update(shards=[]),
        lambda data: data["files"].update({"../secret": {"bytes": 1, "sha256": ""}}),
        lambda data: data["files"]["train.index"].update(bytes=-32),
    ],
)
def test_a_manifest_that_is_not_what_prepare_writes_is_refused(copy, change):
    change_manifest(copy, change)
    with pytest.raises(ValueError, match=r"MANIFEST\.json|train\.index"):
        packed(copy).load()


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "null", '{"format": NaN}'])
def test_a_manifest_that_is_no_manifest_is_refused(copy, text):
    (copy / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"MANIFEST\.json: "):
        packed(copy).load()


def test_a_manifest_may_not_lead_out_of_the_folder_by_a_link(copy, tmp_path):
    (copy / MANIFEST).rename(tmp_path / "elsewhere.json")
    (copy / MANIFEST).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ValueError, match="it is a link"):
        packed(copy).load()


@pytest.mark.parametrize("name", ["train-00001.bin", "val.index", "train.names"])
def test_a_missing_or_short_file_is_named(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-1])
    with pytest.raises(ValueError, match=f"{name}: it has {len(content) - 1:,} bytes, of"):
        packed(copy).load()
    (copy / name).unlink()
    with pytest.raises(ValueError, match=f"{name}: No such file"):
        packed(copy).load()


@pytest.mark.parametrize("ends", [[-1], [0, 5, 3], [1 << 62]])
def test_names_that_end_nowhere_are_refused(copy, ends):
    content = (copy / "train.names").read_bytes()
    (copy / "train.names").write_bytes(np.array(ends, "<i8").tobytes() + content[8 * len(ends) :])
    with pytest.raises(ValueError, match=r"train\.names: it does not hold 24 names"):
        packed(copy).load()


@pytest.mark.parametrize("name", ["train-00001.bin", "val.index", "train.names"])
def test_a_flipped_bit_is_found_where_digests_are_compared(copy, name):
    content = bytearray((copy / name).read_bytes())
    verify(copy, read_manifest(copy))
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: its SHA-256 is not that of the manifest"):
        packed(copy, verify=True).load()


def test_pixels_of_another_size_than_the_index_says_are_refused(photos, tmp_path):
    make_set(photos, tmp_path / "set")
    set_row(tmp_path / "set", "height", 7)
    pictures = packed(tmp_path / "set").load()["train"].inputs
    with pytest.raises(ValueError, match="it has changed since"):
        pictures.read(5, np.empty((3, SIZE, SIZE), np.uint8))


def test_a_folder_that_is_no_packed_set_is_refused_with_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="dltrain prepare dataset=image_folder"):
        packed(tmp_path).load()
    (tmp_path / PROGRESS).write_text("{}")
    with pytest.raises(FileNotFoundError, match="not finished"):
        packed(tmp_path).load()


def test_fewer_classes_than_the_set_has_are_refused(both):
    with pytest.raises(ValueError, match=r"it has 3 classes.*num_classes is 2"):
        packed(both[0], num_classes=2).load()


def test_a_set_that_holds_pixels_gives_no_files(both):
    shelf = packed(both[0]).load()["train"].inputs.shelf
    assert isinstance(shelf, PackedShelf)
    if both[1] == "uint8":
        with pytest.raises(ValueError, match="holds pixels"):
            shelf.content(0)
    else:
        assert shelf.content(0)[:2] == b"\xff\xd8"


def test_drawn_parts_depend_on_the_stored_sizes(both):
    split = packed(both[0]).load()["train"]
    order = torch.arange(len(split.targets))
    heights, widths = torch.from_numpy(split.inputs.sizes).unbind(1)
    top, left, tall, wide = CROP.frame(Draws(0, 0, 0, order), heights, widths).unbind(1)
    assert bool((top + tall <= heights).all())
    assert bool((left + wide <= widths).all())
