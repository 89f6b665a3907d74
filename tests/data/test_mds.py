"""dataset=mds: splits from shards, in place or fetched; what is wrong is said before it is read."""

import http.server
import os
import threading
from functools import partial

import numpy as np
import pytest
import torch
from mds_files import pictures, write_split

from dltrain.data import shard_cache
from dltrain.data.mds import MDS
from dltrain.data.resident import ResidentLoader
from dltrain.data.shard_table import write_table
from dltrain.data.streamed import StreamedLoader

OPTIONS = {
    "download": True,
    "splits": ["train", "val"],
    "num_classes": 3,
    "size": 8,
    "image_shape": [3, 8, 8],
    "crop_fraction": 0.875,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
    "decode": "exact",
    "image_column": "image",
    "shuffle_window": 2,
    "cache": None,
    "cache_limit_gb": 1,
}


@pytest.fixture
def root(tmp_path):
    """23 pictures to train on and 7 to validate, in shards of 5."""
    for split, count in (("train", 23), ("val", 7)):
        write_split(tmp_path / "set" / split, pictures(count))
        write_table(tmp_path / "set" / split, image="image", label="label")
    return tmp_path / "set"


def make(root, **options):
    return MDS(root=str(root), **OPTIONS | options)


def loader_of(split, *, num_workers=0, shuffle=True):
    return StreamedLoader(
        split.inputs,
        torch.from_numpy(split.targets),
        batch_size=4,
        mean=OPTIONS["mean"],
        std=OPTIONS["std"],
        device="cpu",
        num_workers=num_workers,
        shuffle=shuffle,
    )


def batches_of(split, **options):
    loader = loader_of(split, **options)
    try:
        return [tuple(map(torch.clone, batch)) for batch in loader.epoch(1)]
    finally:
        loader.close()


def same(first, second):
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


def test_a_split_has_the_samples_the_labels_and_the_sizes_of_its_shards(root):
    train = make(root).load()["train"]
    assert train.targets.tolist() == [i % 3 for i in range(23)]
    assert train.inputs.sizes.tolist() == [[10 + i % 4, 12 + i % 3] for i in range(23)]
    out = np.empty((3, 8, 8), np.uint8)
    for i in range(23):
        train.inputs.read(i, out)
        assert abs(int(out[0, 4, 4]) - i * 7) <= 2  # one colour, by its number


def test_batches_are_the_same_with_any_number_of_workers_in_place_or_cached(root, tmp_path):
    expected = batches_of(make(root).load()["train"])
    assert same(expected, batches_of(make(root).load()["train"], num_workers=2))
    cached = make(root, cache=str(tmp_path / "cache")).load()["train"]
    assert same(expected, batches_of(cached, num_workers=2))
    assert len(list((tmp_path / "cache").glob("*.mds"))) == 5


def test_batches_are_the_same_where_all_of_it_is_in_memory(root):
    train = make(root).load()["train"]
    pixels = np.empty((23, 3, 8, 8), np.uint8)
    for index in range(23):
        train.inputs.read(index, pixels[index])
    options = {"batch_size": 4, "mean": OPTIONS["mean"], "std": OPTIONS["std"], "device": "cpu"}
    resident = ResidentLoader(
        pixels, train.targets, shuffle=True, shards=train.inputs.shards, **options
    )
    assert same(batches_of(train), [tuple(batch) for batch in resident.epoch(1)])


def test_the_first_samples_lie_in_the_first_shards(root):
    inputs = make(root).load()["train"].inputs
    assert [inputs[:n].shards[0].tolist() for n in (0, 3, 5, 6)] == [[], [3], [5], [5, 1]]


def test_an_epoch_goes_on_in_its_middle_as_if_it_had_begun_at_0(root):
    loader = loader_of(make(root).load()["train"])
    whole = [tuple(batch) for batch in loader.epoch(2)]
    assert same(whole[3:], [tuple(batch) for batch in loader.epoch(2, start=3)])


def test_training_reads_few_shards_at_a_time_and_validation_one_after_the_other(root):
    splits = make(root).load()
    index = torch.cat([batch[2] for batch in batches_of(splits["train"])])
    shards = (index // 5).tolist()
    spans = [(shards.index(s), 23 - shards[::-1].index(s)) for s in range(5)]
    assert max(sum(a <= i < b for a, b in spans) for i in range(23)) == 2
    index = torch.cat([batch[2] for batch in batches_of(splits["val"], shuffle=False)])
    assert index.tolist() == list(range(7))


def test_a_set_on_a_server_is_fetched_when_it_is_needed(root, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_cache, "_PAUSE_SEC", 0.0)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        cache = tmp_path / "cache"
        splits = make(address, cache=str(cache)).load()
        assert not list(cache.glob("*.mds"))
        assert same(batches_of(make(root).load()["val"]), batches_of(splits["val"]))
        assert len(list(cache.glob("*.mds"))) == 2
        with pytest.raises(ValueError, match=r"test/index\.json cannot be read: .*404"):
            make(address, cache=str(cache), splits=["train", "test"]).load()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_fetched_shards_go_to_the_users_cache(root, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert make("https://example.org/set").cache == tmp_path / "dltrain" / "shards"
    assert make(root).cache is None


def test_a_bucket_without_the_library_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs mosaicml-streaming; `pip install 'dltrain\[str"):
        make("s3://bucket/set").load()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"root": "ftp://host/set"}, r"dataset\.root is ftp://host/set/train; it must be a folder"),
        ({"root": "nowhere"}, r"dataset\.root is nowhere; expected a folder"),
        ({"splits": ["val"]}, r"dataset\.splits is \['val'\]; it must hold train"),
        ({"splits": ["train", "dev"]}, r"dataset\.splits is"),
        ({"splits": ["train", "test"]}, r"test/index\.json cannot be read: No such file"),
        ({"cache": "c", "download": False}, r"add `dataset\.download=true` to fetch shards"),
        ({"root": "s3://x/set", "download": False}, r"add `dataset\.download=true` to fetch"),
        ({"image_shape": [3, 8, 9]}, r"dataset\.image_shape is \[3, 8, 9\]; it must be"),
        ({"crop_fraction": 0}, r"dataset\.crop_fraction is 0"),
        ({"decode": "quick"}, r"dataset\.decode is 'quick'; it must be one of exact, fast"),
        ({"image_column": "picture"}, r"dataset\.image_column is 'picture'; the columns"),
        ({"image_column": "label"}, r"column label holds int; images must be"),
        ({"num_classes": 2}, r"labels from 0 to 2, but with dataset\.num_classes 2"),
        ({"shuffle_window": -1}, r"dataset\.shuffle_window is -1"),
        ({"cache_limit_gb": 0}, r"dataset\.cache_limit_gb is 0"),
        ({"cache_limit_gb": 1e-6, "cache": "c"}, r"dataset\.cache_limit_gb is 1e-06, but 2 shards"),
    ],
)
def test_what_cannot_be_is_said_with_its_key(root, tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=says):
        make(**{"root": root} | options).load()


def test_a_set_without_its_table_says_how_to_make_it(root):
    os.remove(root / "val" / "samples.npy")
    with pytest.raises(ValueError, match=r"(?s)samples\.npy cannot be read.*write_table\('FOLDER'"):
        make(root).load()


def test_a_damaged_picture_is_named_by_its_shard(root):
    path = root / "train" / "shard.00001.mds"
    data = bytearray(path.read_bytes())
    begin = data.index(b"\xff\xd8")
    data[begin : begin + 2] = b"xx"
    path.write_bytes(data)
    train = make(root).load()["train"]
    assert train.inputs.describe(5) == "sample 5 of train (0 of shard.00001.mds)"
    with pytest.raises(ValueError, match="not a JPEG"):
        train.inputs.read(5, np.empty((3, 8, 8), np.uint8))
