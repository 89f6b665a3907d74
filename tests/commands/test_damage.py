"""A damaged checkpoint is seen and named, and the run goes on from the one before, to the bit."""

import os
import random
import shutil
import signal

import pytest
from run_reader import assert_same, newest_step, wait_for_step

ARGUMENTS = (
    "train", "model=cnn", "model.widths=[4,8]", "model.dropout=0.2", "callbacks=[default,ema]",
    "trainer.max_epochs=12", "trainer.log_every=7steps", "trainer.eval_every=15steps",
    "trainer.threads=1", "trainer.device=cpu", "hydra.run.dir=run", "checkpoint.every=5steps",
)  # fmt: skip
FILES = ("model.safetensors", "state.safetensors", "state.json", "MANIFEST.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def stopped(made, start, dltrain):
    """(a run that was stopped half-way, the same run that was not); made once."""
    if not (made / "whole").exists():
        assert dltrain(*ARGUMENTS, cwd=made).code == 0
        (made / "run").rename(made / "whole")
        process = start(*ARGUMENTS, cwd=made)
        assert wait_for_step(process, made / "run", 60), process.communicate()
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 143
    return made / "run", made / "whole"


def newest(run_dir):
    return run_dir / "checkpoints" / f"step-{newest_step(run_dir):08d}"


def flip(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def truncate(path, rng):
    os.truncate(path, rng.randrange(path.stat().st_size))


def swap_weights_and_state(folder):
    (folder / "model.safetensors").rename(folder / "x")
    (folder / "state.safetensors").rename(folder / "model.safetensors")
    (folder / "x").rename(folder / "state.safetensors")


def replace_by_a_link(folder):
    content = (folder / "model.safetensors").rename(folder.parent / "elsewhere")
    (folder / "model.safetensors").symlink_to(content)


def take_the_manifest_of_another(folder):
    other = min(path for path in folder.parent.glob("step-*") if path != folder)
    shutil.copy(other / "MANIFEST.json", folder)


def empty_all(folder):
    for name in FILES:
        (folder / name).write_bytes(b"")


def zero_a_block(folder):
    with open(folder / "model.safetensors", "r+b") as file:
        file.seek(-512, os.SEEK_END)
        file.write(bytes(512))


def to_folder(folder):
    (folder / "state.json").unlink()
    (folder / "state.json").mkdir()


def append(folder):
    with open(folder / "state.safetensors", "ab") as file:
        file.write(b"\0")


def add_a_space(folder):
    text = (folder / "MANIFEST.json").read_text()
    (folder / "MANIFEST.json").write_text(text.replace(": ", ":  ", 1))


OTHERS = {
    **{f"{name} is gone": lambda folder, name=name: (folder / name).unlink() for name in FILES},
    "every file is gone": lambda folder: [path.unlink() for path in folder.iterdir()],
    "every file is empty": empty_all,
    "two files are swapped": swap_weights_and_state,
    "a file is a link": replace_by_a_link,
    "a file is a folder": to_folder,
    "the manifest is another's": take_the_manifest_of_another,
    "a block is zero": zero_a_block,
    "a byte more": append,
    "a space more": add_a_space,
    "the folder is a file": lambda folder: (shutil.rmtree(folder), folder.write_bytes(b"x")),
}


def assert_recovers(stopped, damage, dltrain, tmp_path):
    run_dir, whole = stopped
    shutil.copytree(run_dir, tmp_path / "run")
    folder = newest(tmp_path / "run")
    damage(folder)
    outcome = dltrain("resume", "run")
    assert outcome.code == 0, outcome.err
    assert f"checkpoint {folder.name} is damaged: " in outcome.out
    assert f"set aside as checkpoints/damaged-{folder.name}" in outcome.out
    assert (folder.parent / f"damaged-{folder.name}").exists()
    assert_same(tmp_path / "run", whole)


@pytest.mark.parametrize("name", ["state.json", "model.safetensors"])
def test_a_flipped_bit_is_seen(name, stopped, dltrain, tmp_path):
    assert_recovers(stopped, lambda folder: flip(folder / name, random), dltrain, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_any_of_fifty_flipped_bits_is_seen(seed, stopped, dltrain, tmp_path):
    rng, name = random.Random(seed), FILES[seed % 4]
    assert_recovers(stopped, lambda folder: flip(folder / name, rng), dltrain, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_any_of_fifty_truncations_is_seen(seed, stopped, dltrain, tmp_path):
    rng, name = random.Random(seed), FILES[seed % 4]
    assert_recovers(stopped, lambda folder: truncate(folder / name, rng), dltrain, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("what", OTHERS)
def test_any_other_damage_is_seen(what, stopped, dltrain, tmp_path):
    assert_recovers(stopped, OTHERS[what], dltrain, tmp_path)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_where_none_is_usable_nothing_is_changed(stopped, dltrain, tmp_path):
    shutil.copytree(stopped[0], tmp_path / "run")
    for folder in (tmp_path / "run" / "checkpoints").glob("step-*"):
        flip(folder / "model.safetensors", random)
    before = contents(tmp_path / "run")
    for argv in (("resume", "run"), (*ARGUMENTS, "resume=auto")):
        outcome = dltrain(*argv)
        assert outcome.code == 3, outcome
        assert outcome.err.startswith("dltrain: error: no checkpoint in run/checkpoints is usable")
        assert len(outcome.err.splitlines()) <= 6
        assert contents(tmp_path / "run") == before


def test_where_all_have_gone_it_does_not_start_over(stopped, dltrain, tmp_path):
    shutil.copytree(stopped[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    before = contents(tmp_path / "run")
    outcome = dltrain("resume", "run")
    assert outcome.code == 3, outcome
    assert "one of step" in outcome.err
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("name", ["summary.json", "run.json"])
def test_what_a_run_can_do_without_may_be_damaged(name, stopped, dltrain, tmp_path):
    shutil.copytree(stopped[0], tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(b'{"half')
    outcome = dltrain("resume", "run")
    assert outcome.code == 0, outcome.err
    assert_same(tmp_path / "run", stopped[1])
