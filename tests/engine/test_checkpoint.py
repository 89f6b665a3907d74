"""A checkpoint is whole or not there, and damage is seen."""

import math
import random

import pytest
import torch
from safetensors.torch import load_file

from dltrain.engine.checkpoint import (
    DamagedError,
    by_value,
    read_checkpoint,
    steps_in,
    write_checkpoint,
)
from dltrain.engine.saver import Saver
from dltrain.engine.tensors import write_tensors
from dltrain.errors import CheckpointError, NonFiniteError, StorageError

STATE = {
    "step": 3,
    "nested": {"tensor": torch.arange(5), "list": [1, 2.5, None, torch.ones(2, 2)]},
    "text": "x",
}


def write(folder, step, value=0.5):
    model = {"weight": torch.full((3, 4), float(step)), "bias": torch.zeros(3)}
    metrics = {"accuracy/val": value}
    return write_checkpoint(
        folder, step, model=model, state=STATE, metrics=metrics, config_digest="d"
    )


def test_what_is_written_is_read(tmp_path):
    checkpoint = read_checkpoint(write(tmp_path, 3))
    assert checkpoint.step == 3
    assert torch.equal(checkpoint.model["weight"], torch.full((3, 4), 3.0))
    state = checkpoint.state
    assert state["step"] == 3
    assert state["text"] == "x"
    assert torch.equal(state["nested"]["tensor"], torch.arange(5))
    assert state["nested"]["list"][:3] == [1, 2.5, None]


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.float64,
        torch.int64,
        torch.int32,
        torch.uint8,
        torch.bool,
    ],
)
def test_our_safetensors_are_the_librarys(tmp_path, dtype):
    tensors = {
        "b": torch.randn(3, 5).to(dtype),
        "a.scalar": torch.tensor(2).to(dtype),
        "empty": torch.zeros(0, 4, dtype=dtype),
        "transposed": torch.randn(4, 3).t().to(dtype),
    }
    write_tensors(tmp_path / "x.safetensors", tensors)
    loaded = load_file(tmp_path / "x.safetensors")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == dtype
        assert torch.equal(loaded[name], tensor)


def test_equal_weights_are_equal_bytes(tmp_path):
    tensors = {"a": torch.ones(3), "b": torch.zeros(2)}
    write_tensors(tmp_path / "1", tensors)
    write_tensors(tmp_path / "2", dict(reversed(tensors.items())))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_any_flipped_bit_is_seen(tmp_path):
    path = write(tmp_path, 1)
    rng = random.Random(0)
    for file in sorted(path.iterdir()):
        original = file.read_bytes()
        for _ in range(12):
            damaged = bytearray(original)
            damaged[rng.randrange(len(original))] ^= 1 << rng.randrange(8)
            file.write_bytes(damaged)
            with pytest.raises(DamagedError):
                read_checkpoint(path)
        for size in (0, len(original) // 2, len(original) - 1):
            file.write_bytes(original[:size])
            with pytest.raises(DamagedError):
                read_checkpoint(path)
        file.unlink()
        with pytest.raises(DamagedError):
            read_checkpoint(path)
        file.write_bytes(original)
    read_checkpoint(path)


def saver(folder, keep=2):
    return Saver(folder, keep=keep, monitor="accuracy/val", mode="max", config_digest="d")


def test_the_newest_and_the_best_are_kept(tmp_path):
    keeper = saver(tmp_path)
    for step, value in enumerate([0.1, 0.9, 0.3, 0.9, 0.5, 0.6], start=1):
        keeper.save(step, {"w": torch.ones(1)}, {"step": step}, {"accuracy/val": value})
    keeper.wait()
    assert [path.name for path in steps_in(tmp_path)] == [
        "step-00000004",
        "step-00000005",
        "step-00000006",
    ]
    assert by_value(tmp_path, "accuracy/val", "max")[0].name == "step-00000004"


def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(tmp_path):
    for step in (1, 2, 3):
        write(tmp_path, step)
    for step in (2, 3):
        (tmp_path / f"step-0000000{step}" / "state.json").write_text("{}")
    assert saver(tmp_path).load_newest().step == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "damaged-step-00000002",
        "damaged-step-00000003",
        "step-00000001",
    ]


def test_without_a_usable_checkpoint_nothing_is_touched(tmp_path):
    write(tmp_path, 1)
    (tmp_path / "step-00000001" / "MANIFEST.json").unlink()
    with pytest.raises(CheckpointError, match="step-00000001"):
        saver(tmp_path).load_newest()
    assert (tmp_path / "step-00000001" / "model.safetensors").exists()
    assert saver(tmp_path / "empty").load_newest() is None


def test_a_nan_is_never_the_best():
    keeper = saver("unused")
    assert keeper.is_better(1, {"accuracy/val": float("nan")}) is False
    assert keeper.is_better(2, {"accuracy/val": 0.1}) is True
    assert keeper.is_better(3, {"accuracy/val": float("nan")}) is False
    assert keeper.best == {"step": 2, "value": 0.1}
    poisoned = {"accuracy/val": 0.9, "loss/val": float("nan")}  # the class of a NaN is class 0
    assert keeper.is_better(4, poisoned) is False
    assert keeper.is_better(5, {"accuracy/val": 0.2, "loss/train": float("nan")}) is True


def test_weights_whose_loss_is_nan_are_not_kept_as_the_best(tmp_path):
    keeper = saver(tmp_path)
    for step, loss in enumerate([0.5, math.nan, 0.5, 0.5], start=1):
        metrics = {"accuracy/val": 1.0 / (step + (step == 2) * -1.5), "loss/val": loss}
        keeper.save(step, {"w": torch.ones(1)}, {}, metrics)
    keeper.wait()
    assert by_value(tmp_path, "accuracy/val", "max")[0].name == "step-00000001"


def test_a_failure_of_the_writer_is_raised_and_leaves_the_old_one(tmp_path, monkeypatch):
    keeper = saver(tmp_path)
    keeper.save(1, {"w": torch.ones(1)}, {}, {"accuracy/val": 0.1})
    keeper.wait()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    keeper.save(2, {"w": torch.ones(1)}, {}, {"accuracy/val": 0.1})
    with pytest.raises(StorageError, match="No space"):
        keeper.wait()
    assert [path.name for path in steps_in(tmp_path)] == ["step-00000001"]
    keeper.wait()  # raised once


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    keeper = saver(tmp_path)
    keeper.exempt = {"mask"}
    mask = torch.tensor([0.0, float("-inf")])
    keeper.save(1, {"w": torch.ones(1), "mask": mask, "count": torch.ones(1).long()}, {}, {})
    keeper.save(2, {"w": torch.tensor([1.0, float("inf")]), "mask": mask}, {}, {})
    with pytest.raises(NonFiniteError, match=r"weights of step 2 are not finite \(w\)"):
        keeper.wait()
    assert [path.name for path in steps_in(tmp_path)] == ["step-00000001"]


def test_a_folder_with_the_name_of_another_step_is_damaged(tmp_path):
    for step in (1, 2):
        write(tmp_path, step)
    (tmp_path / "step-00000001").rename(tmp_path / "step-00000999")
    assert saver(tmp_path).load_newest().step == 2
    assert (tmp_path / "damaged-step-00000999").is_dir()


def test_a_link_in_place_of_an_old_checkpoint_is_neither_followed_nor_in_the_way(tmp_path):
    elsewhere = write(tmp_path / "elsewhere", 1, value=1.0)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "step-00000001").symlink_to(elsewhere)
    keeper = saver(folder)
    for step in (2, 3, 4):
        keeper.save(step, {"w": torch.ones(1)}, {}, {"accuracy/val": 0.5})
    keeper.wait()
    assert [path.name for path in steps_in(folder)] == ["step-00000003", "step-00000004"]
    assert len(list(elsewhere.iterdir())) == 4


def test_what_a_kill_kept_from_being_removed_is_removed_at_the_next_start(tmp_path):
    for step in (1, 2, 3, 4):
        write(tmp_path, step, value=step / 10)
    saver(tmp_path).load_newest()
    assert [path.name for path in steps_in(tmp_path)] == ["step-00000003", "step-00000004"]
