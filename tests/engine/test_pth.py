"""A .pth is read as torch reads it, without what torch would do for a hostile one."""

import io
import os
import pickle
import random
import struct
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from dltrain.engine.pth import read_pth
from dltrain.engine.weights import read_weights
from dltrain.errors import UserError

MB = 1 << 20
LEGACY_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)


def state():
    base = torch.arange(24.0)
    return {
        "float": torch.randn(3, 4),
        "transposed": torch.randn(3, 4).t(),
        "view": base[3:9].view(2, 3),
        "tied": base[3:9],
        "scalar": torch.tensor(5),
        "empty": torch.empty(0, 3),
        "bf16": torch.randn(3).bfloat16(),
        "half": torch.randn(3).half(),
        "bool": torch.tensor([True, False]),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "parameter": nn.Parameter(torch.randn(2)),
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("where", ["", "model", "state_dict"])
def test_it_is_what_torch_reads(zipped, where, tmp_path):
    saved = {where: state(), "epoch": 3, "lr": 0.1} if where else state()
    torch.save(saved, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    theirs = torch.load(tmp_path / "w.pth", weights_only=True)
    theirs = theirs[where] if where else theirs
    ours = read_weights(tmp_path / "w.pth")
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert ours[name].dtype == theirs[name].dtype
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_whole_training_checkpoint_is_read(zipped, tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "args": Path("x")}
    torch.save(saved, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    for name, tensor in model.state_dict().items():
        assert torch.equal(read_weights(tmp_path / "w.pth")[name], tensor)


def zipped(pickled, compression=zipfile.ZIP_STORED, records=()):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in records:
            archive.writestr(f"archive/{name}", content)
    return file.getvalue()


class Command:
    def __reduce__(self):
        return os.system, ("touch canary",)


def tensor_of(size, stride, numel=4):
    """The pickle of {"a": a tensor} whose shape is a lie."""
    shape = [b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in ns) + b"t"
             for ns in (size, stride)]  # fmt: skip
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuJ"
    storage += struct.pack("<i", numel) + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + shape[0] + shape[1]
    return b"\x80\x02}X\1\0\0\0a" + call + b"\x89}tRs."


BYTEARRAY = b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."
HOSTILE = {
    "pickle": pickle.dumps(Command(), 2),
    "pickle in a zip": zipped(pickle.dumps({"a": Command()}, 2)),
    "deflated tree": zipped(b"\0" * (64 * MB), zipfile.ZIP_DEFLATED),
    "bytearray of 2 GB": zipped(BYTEARRAY),
    "bytearray in a legacy file": LEGACY_MAGIC + BYTEARRAY,
    "text of 4 GB": LEGACY_MAGIC + b"\x80\x02X\xff\xff\xff\xff",
    "memo of 4 G": zipped(b"\x80\x02Nr\xff\xff\xff\xff."),
    "no numbers": zipped(tensor_of([4], [1])),
    "fewer numbers": zipped(tensor_of([4], [1]), records=[("data/0", b"\0" * 8)]),
    "larger than its numbers": zipped(tensor_of([9], [1]), records=[("data/0", b"\0" * 16)]),
    "expanded": zipped(tensor_of([1 << 40], [0]), records=[("data/0", b"\0" * 16)]),
    "negative stride": zipped(tensor_of([4], [-1]), records=[("data/0", b"\0" * 16)]),
    "overflow": zipped(tensor_of([1 << 61, 8], [1 << 61, 1]), records=[("data/0", b"\0" * 16)]),
    "keys that hash for ever": zipped(b"\x80\x02}N" + b"q\0h\0\x86" * 60 + b"Ns."),
    "torchscript": zipped(tensor_of([4], [1]), records=[("constants.pkl", b"")]),
    "big-endian": zipped(tensor_of([4], [1]), records=[("byteorder", b"big")]),
    "opcodes": zipped(b"\x80\x02" + b"N" * 1_000_001 + b"."),
    "empty": b"",
    "zip without end": b"PK\3\4" + b"\0" * 100,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_a_message_and_runs_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("w.pth").write_bytes(HOSTILE[name])
    tracemalloc.start()
    with pytest.raises(UserError, match="init_from") as caught:
        read_weights(Path("w.pth"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(str(caught.value).splitlines()) <= 6
    assert "weights_only" not in str(caught.value), "it must not say how to run the code"
    assert peak < 64 * MB
    assert os.listdir() == ["w.pth"]


def test_a_sparse_file_is_not_read_whole(tmp_path):
    for head in (b"", b"PK\3\4", b"\x80\x02", LEGACY_MAGIC):
        with open(tmp_path / "w.pth", "wb") as file:
            file.write(head)
            file.truncate(10 << 30)
        tracemalloc.start()
        with pytest.raises(UserError):
            read_weights(tmp_path / "w.pth")
        assert tracemalloc.get_traced_memory()[1] < 64 * MB
        tracemalloc.stop()


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_damaged_file_never_ends_in_another_error(form, tmp_path):
    torch.save(state(), tmp_path / "w.pth", _use_new_zipfile_serialization=form == "zip")
    whole, chance = (tmp_path / "w.pth").read_bytes(), random.Random(0)
    for _ in range(300):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (tmp_path / "w.pth").write_bytes(data[: chance.choice([len(data), chance.randrange(999)])])
        with suppress(UserError):
            read_weights(tmp_path / "w.pth")


def test_an_unknown_object_is_its_name_alone(tmp_path):
    torch.save({"a": Command()}, tmp_path / "w.pth")
    assert read_pth(tmp_path / "w.pth")["a"].name == f"{os.system.__module__} system"
