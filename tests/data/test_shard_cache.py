"""Shards that are fetched: whole or not at all, within a limit, whoever is killed meanwhile."""

import os
import signal
import time

import pytest
from mds_files import pictures, write_split

from dltrain.data import shard_cache
from dltrain.data.remotes import LocalCopy
from dltrain.data.shard_cache import ShardCache
from dltrain.data.shards import Shards, parse_index

SET = "0123456789abcdef"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(shard_cache, "_PAUSE_SEC", 0.0)


class Counted:
    """Fetches from a folder, and remembers what."""

    def __init__(self, folder):
        self.copy, self.names = LocalCopy(folder), []

    def __call__(self, name, path):
        self.names.append(name)
        self.copy.fetch(name, path)


@pytest.fixture
def remote(tmp_path):
    """Six shards of two samples, their index, and a function that fetches them."""
    samples = pictures(12)
    write_split(tmp_path / "remote", samples, per_shard=2)
    index = parse_index((tmp_path / "remote" / "index.json").read_bytes(), "index.json")
    return samples, index, Counted(tmp_path / "remote")


def cache_of(tmp_path, fetch, *, limit=10**9, identity=SET):
    return ShardCache(fetch, tmp_path / "cache", limit=limit, identity=identity)


def bytes_in(folder):
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def test_each_shard_is_fetched_once(tmp_path, remote):
    samples, index, fetch = remote
    for _ in range(2):  # the second is another run
        shards = Shards(index, cache_of(tmp_path, fetch).open_shard)
        assert [shards.read(i, 0) for i in range(12)] == [sample["image"] for sample in samples]
    assert sorted(fetch.names) == [shard.name for shard in index.shards]
    assert not list((tmp_path / "cache").glob("*.part"))


def test_the_limit_is_kept_and_what_was_used_last_stays(tmp_path, remote):
    samples, index, fetch = remote
    largest = max(shard.num_bytes for shard in index.shards)
    cache = cache_of(tmp_path, fetch, limit=3 * largest)
    shards = Shards(index, cache.open_shard)
    for sample in (0, 2, 4, 0, 6):
        assert shards.read(sample, 0) == samples[sample]["image"]
        assert bytes_in(tmp_path / "cache") <= 3 * largest
        time.sleep(0.01)  # times of files have a resolution
    there = {path.name for path in (tmp_path / "cache").glob("*.mds")}
    assert there == {f"{SET}-{index.shards[i].name}" for i in (0, 2, 3)}


def test_a_shard_that_is_taken_away_is_fetched_again(tmp_path, remote):
    samples, index, fetch = remote
    shards = Shards(index, cache_of(tmp_path, fetch).open_shard)
    shards.read(0, 0)
    for path in (tmp_path / "cache").glob("*.mds"):
        path.unlink()
    assert shards.read(1, 0) == samples[1]["image"]


def test_sets_do_not_mix(tmp_path, remote):
    _, index, fetch = remote
    first = cache_of(tmp_path, fetch, identity="0" * 16).open_shard(index.shards[0])
    assert cache_of(tmp_path, fetch, identity="1" * 16).open_shard(index.shards[0]) != first


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-1] + b"?"])
def test_a_shard_that_comes_damaged_is_refused_and_not_kept(tmp_path, remote, change):
    _, index, fetch = remote
    path = tmp_path / "remote" / "shard.00000.mds"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=r"^shard\.00000\.mds came "):
        cache_of(tmp_path, fetch).open_shard(index.shards[0])
    assert len(fetch.names) == 3
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_file()]


def test_a_fetch_that_fails_is_tried_again(tmp_path, remote):
    samples, index, fetch = remote

    def unsteady(name, path):
        fetch(name, path)
        if len(fetch.names) < 3:
            raise RuntimeError("connection\x1b[31m reset")

    shards = Shards(index, cache_of(tmp_path, unsteady).open_shard)
    assert shards.read(0, 0) == samples[0]["image"]


def test_a_fetch_that_fails_for_good_says_why(tmp_path, remote):
    _, index, _ = remote

    def broken(name, path):
        raise RuntimeError("connection\x1b[31m reset")

    with pytest.raises(ValueError, match=r"mds cannot be fetched: RuntimeError: conn"):
        cache_of(tmp_path, broken).open_shard(index.shards[0])


def test_a_reader_that_is_killed_in_a_fetch_stops_nobody(tmp_path, remote):
    samples, index, fetch = remote
    ready, begun = os.pipe()

    def for_ever(name, path):
        path.write_bytes(b"half")
        os.write(begun, b".")
        signal.pause()

    pid = os.fork()
    if pid == 0:
        cache_of(tmp_path, for_ever).open_shard(index.shards[0])
        os._exit(0)
    os.read(ready, 1)
    os.close(ready)
    os.close(begun)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    shards = Shards(index, cache_of(tmp_path, fetch).open_shard)
    assert shards.read(0, 0) == samples[0]["image"]


def test_readers_that_want_the_same_shard_wait_for_one(tmp_path, remote):
    samples, index, fetch = remote
    counter = tmp_path / "counter"

    def slow(name, path):
        with counter.open("ab") as file:
            file.write(b".")
        time.sleep(0.1)
        fetch(name, path)

    pids = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                read = Shards(index, cache_of(tmp_path, slow).open_shard).read(0, 0)
                code = int(read != samples[0]["image"])
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    assert counter.read_bytes() == b"."


def test_parts_of_others_stay_and_stale_ones_go(tmp_path, remote):
    _, index, fetch = remote
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in ("now.part", "old.part"):
        (folder / f"{SET}-{name}").write_bytes(bytes(5000))
    os.utime(folder / f"{SET}-old.part", (0, 0))
    cache_of(tmp_path, fetch, limit=5000).open_shard(index.shards[0])
    assert (folder / f"{SET}-now.part").exists()
    assert not (folder / f"{SET}-old.part").exists()


def test_files_that_are_not_of_the_cache_are_never_removed(tmp_path, remote):
    _, index, fetch = remote
    folder = tmp_path / "cache"
    folder.mkdir()
    others = [folder / name for name in ("thesis.tex", "shard.00000.mds", "old.part", f"{SET}")]
    for path in others:
        path.write_bytes(bytes(5000))
        os.utime(path, (0, 0))
    cache = cache_of(tmp_path, fetch, limit=1)
    for shard in index.shards:
        cache.open_shard(shard)
    assert all(path.exists() for path in others)
    assert len(list(folder.glob(f"{SET}-*.mds"))) == 1
