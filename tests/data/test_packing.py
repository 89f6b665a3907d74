"""Packing: whatever ends it, what was finished is kept, and the set is the same in the end."""

import errno
import json
import os
import shutil

import pytest
from photos import make_folder, write_damaged, write_photo
from test_packed import folder, packed, plan_of

from dltrain.data.packed_layout import MANIFEST, PROGRESS, read_manifest, verify
from dltrain.data.packed_record import finished
from dltrain.data.packing import Stopped, pack
from dltrain.errors import WorkerError

SHARD = 20_000  # bytes: several shards


@pytest.fixture
def photos(tmp_path):
    return make_folder(tmp_path / "photos", num_train=70)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


def run(source, out, *, store="files", shard_bytes=SHARD, skip=False, workers=0, **options):
    dataset = folder(source, "skip" if skip else "error")
    plan = plan_of(dataset, store, shard_bytes=shard_bytes)
    return pack(plan, out, num_workers=workers, skip=skip, **options)


def content(root):
    return {path.name: path.read_bytes() for path in root.iterdir()}


class StopAfter:
    """`stopped` of `pack`, true from the given question on."""

    def __init__(self, times):
        self.left = times

    def __call__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("store", ["files", "uint8"])
def test_any_number_of_workers_writes_the_same_bytes(photos, tmp_path, store):
    for workers in (0, 2):
        (tmp_path / str(workers)).mkdir()
        run(photos, tmp_path / str(workers), store=store, workers=workers)
    assert content(tmp_path / "0") == content(tmp_path / "2")
    shards = list((tmp_path / "0").glob("train-*.bin"))
    assert len(shards) > 1
    assert max(path.stat().st_size for path in shards) <= SHARD


def test_the_manifest_has_size_and_digest_of_every_file_and_nothing_else_is_there(photos, out):
    manifest = run(photos, out)
    verify(out, manifest)
    assert read_manifest(out) == manifest
    assert content(out).keys() == manifest.files.keys() | {MANIFEST}


@pytest.mark.parametrize("store", ["files", "uint8"])
@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_stopped_anywhere_and_begun_again_it_is_the_same_set(photos, out, tmp_path, store, times):
    with pytest.raises(Stopped):
        run(photos, out, store=store, stopped=StopAfter(times))
    assert not list(out.glob(".*"))
    assert not (out / MANIFEST).exists()
    done = json.loads((out / PROGRESS).read_text())["files"]
    kept = {name: (out / name).stat().st_mtime_ns for name in done}
    said = []
    run(photos, out, store=store, progress=lambda *each: said.append(each[1:]))
    assert said[-1] == (80, 80)
    assert said[0][0] > 0
    for name, time in kept.items():
        assert (out / name).stat().st_mtime_ns == time, f"{name} was written again"
    (tmp_path / "whole").mkdir()
    run(photos, tmp_path / "whole", store=store)
    assert content(out) == content(tmp_path / "whole")


def test_a_killed_process_leaves_a_part_that_is_done_again(photos, out, tmp_path):
    pid = os.fork()
    if pid == 0:
        seen = []
        run(photos, out, progress=lambda *each: os._exit(9) if seen else seen.append(each))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert list(out.glob(".*.tmp"))
    run(photos, out)
    (tmp_path / "whole").mkdir()
    run(photos, tmp_path / "whole")
    assert content(out) == content(tmp_path / "whole")


def test_a_finished_shard_that_was_lost_or_cut_is_done_again(photos, out, tmp_path):
    with pytest.raises(Stopped):
        run(photos, out, stopped=StopAfter(2))
    first, *_ = sorted(out.glob("train-*.bin"))
    os.truncate(first, 5)
    run(photos, out)
    verify(out, read_manifest(out))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"store": "uint8"}, "prepare.side, prepare.store differ"),
        ({"shard_bytes": 9_999}, "prepare.shard_mib differs"),
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_other_settings_are_refused_by_name(photos, out, change, said, complete):
    if complete:
        run(photos, out)
    else:
        with pytest.raises(Stopped):
            run(photos, out, stopped=StopAfter(2))
    plan = plan_of(folder(photos), **{"shard_bytes": SHARD} | change)
    with pytest.raises(ValueError, match=said):
        finished(out, plan) or pack(plan, out, num_workers=0, skip=False)


def test_another_source_is_refused_by_the_split_that_differs(photos, out):
    with pytest.raises(Stopped):
        run(photos, out, stopped=StopAfter(2))
    os.utime(photos / "val" / "class 0" / "000.jpg", (0, 0))
    with pytest.raises(ValueError, match="something else: the images of val differ"):
        run(photos, out)


def test_the_same_source_elsewhere_goes_on(photos, out, tmp_path):
    with pytest.raises(Stopped):
        run(photos, out, stopped=StopAfter(2))
    shutil.move(photos, tmp_path / "moved")
    run(tmp_path / "moved", out)
    verify(out, read_manifest(out))


def damage(photos):
    """An image whose header is good and whose pixels are not, the first of all."""
    path = write_damaged(photos / "train" / "class 0" / "000 bad.png")
    return path


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_decoded_is_named(photos, out, workers):
    path = damage(photos)
    with pytest.raises(ValueError, match=r"000 bad\.png cannot be read: .*\n.*on_bad_image=skip"):
        run(photos, out, store="uint8", workers=workers)
    assert not list(out.glob(".*"))
    path.unlink()
    write_photo(path, 64, 64)


def test_or_it_is_left_out_whenever_the_set_is_finished(photos, out):
    before = len(packed_targets(photos, out.parent / "before"))
    damage(photos)
    with pytest.raises(Stopped):
        run(photos, out, store="uint8", skip=True, stopped=StopAfter(2))
    run(photos, out, store="uint8", skip=True)
    found = packed(out).load()["train"]
    names = [found.inputs.shelf.name(index) for index in range(len(found.targets))]
    assert len(names) == before
    assert not [name for name in names if "bad" in name]
    assert json.loads((out / MANIFEST).read_text())["num_left_out"] == 1
    image = folder(photos).load()["train"].inputs.shelf
    assert [image.name(each) for each in range(1, before + 1)] == names


def packed_targets(photos, out):
    out.mkdir()
    run(photos, out, store="uint8")
    return packed(out).load()["train"].targets


def test_a_class_of_which_nothing_is_left_is_an_error(photos, out):
    for path in (photos / "train" / "class 1").iterdir():
        if path.suffix == ".jpg":
            shutil.copyfile(damage(photos), path)
        else:
            path.unlink()
    damage(photos).unlink()
    with pytest.raises(ValueError, match="no image of class 1 can be read"):
        run(photos, out, store="uint8", skip=True)


def test_a_file_that_was_changed_since_it_was_looked_at_is_named(photos, out):
    plan = plan_of(folder(photos))
    with (photos / "train" / "class 0" / "000.jpg").open("ab") as file:
        file.write(b"more")
    with pytest.raises(
        ValueError, match=r"000\.jpg cannot be read: it has .* bytes, not .*changed"
    ):
        pack(plan, out, num_workers=0, skip=False)


def test_an_image_of_another_size_than_when_it_was_looked_at_is_named(photos, out):
    plan = plan_of(folder(photos), "uint8")
    write_photo(photos / "train" / "class 0" / "000.jpg", 90, 20)
    with pytest.raises(ValueError, match=r"000\.jpg cannot be read: it has 90 x 20 pixels"):
        pack(plan, out, num_workers=0, skip=False)


def test_a_disk_that_is_too_small_is_told_of_before_anything_is_written(photos, out):
    plan = plan_of(folder(photos), shard_bytes=1 << 40)
    shard = plan.shards[0]._replace(num_bytes=1 << 60)
    large = plan.__class__(**plan.__dict__ | {"shards": (shard, *plan.shards[1:])})
    with pytest.raises(OSError, match="No space") as caught:
        pack(large, out, num_workers=0, skip=False)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(out)
    assert "bytes are needed" in caught.value.__notes__[0]
    assert not list(out.iterdir())


class DeadlyShelf:
    """Images whose fourth kills whoever reads it."""

    def __init__(self, shelf):
        self.shelf = shelf
        self.name, self.version, self.describe = shelf.name, shelf.version, shelf.describe

    def content(self, index):
        if index == 3:
            os.kill(os.getpid(), 9)
        return self.shelf.content(index)


def test_a_reader_that_dies_is_told_of_with_its_image(photos, out):
    plan = plan_of(folder(photos))
    part = plan.parts["train"]
    parts = plan.parts | {"train": part._replace(shelf=DeadlyShelf(part.shelf))}
    with pytest.raises(WorkerError, match=r"was reading .*jpg and was killed by SIGKILL"):
        pack(plan.__class__(**plan.__dict__ | {"parts": parts}), out, num_workers=1, skip=False)
    assert not list(out.glob(".*"))


def test_nothing_is_left_open(photos, out):
    before = len(os.listdir("/dev/fd"))
    run(photos, out, workers=2)
    assert len(os.listdir("/dev/fd")) == before


def test_a_record_of_somebody_else_is_refused(photos, out):
    (out / PROGRESS).write_text('{"files": 3}')
    with pytest.raises(ValueError, match=r"PROGRESS\.json: it is no record of packing"):
        run(photos, out)


def test_a_packed_set_can_be_packed_again_as_pixels(photos, out, tmp_path):
    run(photos, out)
    (tmp_path / "pixels").mkdir()
    dataset = packed(out)
    pack(plan_of(dataset, "uint8"), tmp_path / "pixels", num_workers=0, skip=False)
    (tmp_path / "direct").mkdir()
    run(photos, tmp_path / "direct", store="uint8", shard_bytes=1 << 30)
    for name in ("train-00000.bin", "train.index", "train.names"):
        assert (tmp_path / "pixels" / name).read_bytes() == (
            tmp_path / "direct" / name
        ).read_bytes(), name
