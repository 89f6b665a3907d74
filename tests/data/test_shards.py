"""MDS shards: the bytes of each sample, the table, and refusal of what is damaged or hostile."""

import io
import json
import os

import numpy as np
import pytest
from mds_files import COLUMNS, jpeg, pictures, write_split
from PIL import ExifTags, Image

from dltrain.data.shard_table import parse_table, read_local_index, write_table
from dltrain.data.shards import Shards, parse_index


def open_split(folder):
    index = read_local_index(folder)
    return Shards(index, lambda shard: folder / shard.name)


def test_every_sample_is_read_as_it_was_written(tmp_path):
    samples = pictures(13)
    write_split(tmp_path / "train", samples)
    shards = open_split(tmp_path / "train")
    assert len(shards) == 13
    assert shards.sizes.tolist() == [5, 5, 3]
    for number, sample in enumerate(samples):
        assert shards.read(number, 0) == sample["image"]
        assert shards.read(number, 1) == sample["label"]


def test_columns_that_are_not_wanted_are_passed_over(tmp_path):
    columns = {"a": ("str", None), "image": ("bytes", None), "b": ("int", 8), "z": ("str", None)}
    samples = [
        {"a": b"x" * i, "image": b"image %d" % i, "b": b"8 bytes!", "z": b"last"} for i in range(7)
    ]
    write_split(tmp_path / "train", samples, columns=columns)
    shards = open_split(tmp_path / "train")
    wanted = shards.index.column("image", "dataset.image_column")
    assert [shards.read(i, wanted) for i in range(7)] == [sample["image"] for sample in samples]


def test_table_holds_labels_and_sizes_as_seen(tmp_path):
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    samples = [
        {"image": jpeg(0, height=10, width=20), "label": np.int64(4).tobytes()},
        {"image": jpeg(1, height=10, width=20, exif=turned), "label": np.int64(2).tobytes()},
    ]
    write_split(tmp_path / "train", samples)
    path = write_table(tmp_path / "train", image="image", label="label")
    table = parse_table(path.read_bytes(), "it", num_samples=2)
    assert table.tolist() == [[4, 10, 20], [2, 20, 10]]


@pytest.mark.parametrize("encoding", ["uint8", "int16", "int64"])
def test_labels_of_any_width_are_read(tmp_path, encoding):
    dtype = np.dtype(encoding)
    columns = COLUMNS | {"label": (encoding, dtype.itemsize)}
    samples = [{"image": jpeg(i), "label": dtype.type(i).tobytes()} for i in range(4)]
    write_split(tmp_path / "train", samples, columns=columns)
    path = write_table(tmp_path / "train", image="image", label="label")
    assert np.load(path)[:, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", r"no \.npy"),
        (b"\x93NUMPY\x01\x00", r"no \.npy"),
        (b"\x93NUMPY\1\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (2, 3)}", r"no \.npy"),
        (b"PK\x05\x06" + bytes(18), "several arrays"),
    ],
)  # fmt: skip
def test_a_table_that_is_none_is_refused(data, says):
    with pytest.raises(ValueError, match=says):
        parse_table(data, "samples.npy", num_samples=2)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_table_that_would_run_code_does_not(tmp_path):
    file, trap = io.BytesIO(), tmp_path / "trap"
    np.save(file, np.array([[Trap(trap)] * 3] * 2, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"no \.npy"):
        parse_table(file.getvalue(), "samples.npy", num_samples=2)
    assert not trap.exists()


@pytest.mark.parametrize(
    "table",
    [np.ones((3, 3), np.int64), np.ones((2, 3), np.int32), np.ones((2, 1), np.int64),
     -np.ones((2, 3), np.int64), np.zeros((2, 3), np.int64)],
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused(tmp_path, table):
    np.save(tmp_path / "t.npy", table)
    with pytest.raises(ValueError, match=r"samples\.npy: "):
        parse_table((tmp_path / "t.npy").read_bytes(), "samples.npy", num_samples=2)


# ---------------------------------------------------------------------- the index is a stranger's


def change(index, **values):
    for shard in index["shards"]:
        shard.update(values)


def change_raw(index, **values):
    index["shards"][0]["raw_data"].update(values)


DAMAGE = {
    "version": (lambda index: index.update(version=3), "version"),
    "no shards": (lambda index: index.update(shards=[]), "lists no shard"),
    "no list": (lambda index: index.update(shards={}), "no list"),
    "shard is no object": (lambda index: index["shards"].append(3), "shard 3"),
    "another format": (lambda index: change(index, format="json"), "format"),
    "compressed": (lambda index: change(index, compression="zstd"), "compressed"),
    "a path": (lambda index: change_raw(index, basename="../outside.mds"), "file's name"),
    "an absolute path": (lambda index: change_raw(index, basename="/etc/passwd"), "file's name"),
    "a hidden name": (lambda index: change_raw(index, basename=".bashrc"), "file's name"),
    "no name": (lambda index: change_raw(index, basename=None), "file's name"),
    "a long name": (lambda index: change_raw(index, basename="x" * 300), "file's name"),
    "a name twice": (lambda index: change_raw(index, basename="shard.00001.mds"), "same name"),
    "negative size": (lambda index: change_raw(index, bytes=-1), "bytes"),
    "true as a size": (lambda index: change_raw(index, bytes=True), "bytes"),
    "a size beyond 4 GiB": (lambda index: change_raw(index, bytes=1 << 40), "bytes"),
    "more samples than bytes": (lambda index: change(index, samples=10**9), "samples"),
    "no samples": (lambda index: change(index, samples=0), "samples"),
    "columns of no length": (lambda index: change(index, column_names=[]), "columns"),
    "columns of other lengths": (lambda index: change(index, column_names=["image"]), "columns"),
    "other columns": (lambda index: index["shards"][1].update(column_sizes=[None, 4]), "other col"),
    "a negative width": (lambda index: change(index, column_sizes=[None, -8]), "columns"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_an_index_that_is_not_right_is_refused_by_name(tmp_path, name):
    index = write_split(tmp_path / "train", pictures(13))
    damage, says = DAMAGE[name]
    damage(index)
    with pytest.raises(ValueError, match=says) as caught:
        parse_index(json.dumps(index).encode(), "index.json")
    assert str(caught.value).startswith("index.json")


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[" * 100_000, b"null", b"[]", b"{}"])
def test_what_is_no_index_is_refused(data):
    with pytest.raises(ValueError, match=r"^index\.json: "):
        parse_index(data, "index.json")


@pytest.mark.parametrize("encoding", ["pkl", "json", "pil", "ndarray:uint8", "list[jpeg]"])
def test_only_image_files_are_images(tmp_path, encoding):
    """A pickle is refused by its name in the index; nothing here could run it."""
    write_split(tmp_path / "train", pictures(3), columns=COLUMNS | {"image": (encoding, None)})
    with pytest.raises(ValueError, match="images must be written as one of jpeg, png, bytes"):
        write_table(tmp_path / "train", image="image", label="label")


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    write_split(tmp_path / "train", pictures(3))
    with pytest.raises(ValueError, match="'picture'; the columns of these shards are image, label"):
        write_table(tmp_path / "train", image="picture", label="label")


def test_any_damage_to_a_shard_is_an_error_that_names_it(tmp_path):
    """Every byte of the head in turn: a sample's bytes, or a ValueError; never anything else."""
    write_split(tmp_path / "train", pictures(3))
    path = tmp_path / "train" / "shard.00000.mds"
    shards, good = open_split(tmp_path / "train"), path.read_bytes()
    refused = 0
    for place in range(4, 20):
        for value in (0x00, 0x7F, 0xFF):
            path.write_bytes(good[:place] + bytes([value]) + good[place + 1 :])
            for sample in range(3):
                try:
                    shards.read(sample, 1)
                except ValueError as error:
                    assert str(error).startswith("shard.00000.mds is damaged")  # noqa: PT017
                    refused += 1
    assert refused > 30


def test_a_column_that_is_longer_than_its_sample_is_damage(tmp_path):
    write_split(tmp_path / "train", pictures(3))
    path = tmp_path / "train" / "shard.00000.mds"
    data = bytearray(path.read_bytes())
    begin = int(np.frombuffer(data, np.uint32, 1, 4)[0])  # of sample 0: the size of its image
    data[begin : begin + 4] = np.uint32(10**6).tobytes()
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"^shard\.00000\.mds is damaged: a sample ends before"):
        open_split(tmp_path / "train").read(0, 0)


def test_a_shard_that_is_taken_away_as_it_is_opened_is_asked_for_again(tmp_path):
    samples = pictures(3)
    write_split(tmp_path / "train", samples)
    index = read_local_index(tmp_path / "train")
    asked = []

    def open_shard(shard):
        asked.append(shard)
        return tmp_path / ("train" if len(asked) > 5 else "gone") / shard.name

    assert Shards(index, open_shard).read(1, 0) == samples[1]["image"]
    with pytest.raises(FileNotFoundError):
        Shards(index, lambda shard: tmp_path / "gone").read(1, 0)


def test_a_shard_that_is_cut_off_is_named(tmp_path):
    write_split(tmp_path / "train", pictures(13))
    path = tmp_path / "train" / "shard.00002.mds"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"shard\.00002\.mds: it has"):
        read_local_index(tmp_path / "train")
    path.unlink()
    with pytest.raises(ValueError, match=r"shard\.00002\.mds: there is no such file"):
        read_local_index(tmp_path / "train")
