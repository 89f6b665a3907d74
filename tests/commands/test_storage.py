"""No room, no permission, two writers: the run says so, and what was saved stays whole."""

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest
from run_reader import assert_same, newest_step, wait_for_step

from dltrain.engine.checkpoint import read_checkpoint, steps_in

ARGUMENTS = (
    "train", "model.hidden_sizes=[32]", "callbacks=[default,ema]", "trainer.max_epochs=15",
    "trainer.log_every=3steps", "trainer.eval_every=15steps", "checkpoint.every=5steps",
    "trainer.threads=1", "trainer.device=cpu", "hydra.run.dir=run", "loggers=[tensorboard,csv]",
)  # fmt: skip
LARGEST = 36_000  # bytes of the largest file of such a run: the state of a checkpoint


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
        process.terminate()
        process.communicate()
        assert process.returncode == 143
    return made / "run", made / "whole"


def limited(argv, cwd, max_bytes):
    """The command where no file may grow beyond so many bytes: how a full disk is made."""
    return subprocess.run(
        [sys.executable, "-m", "dltrain", *argv],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes)),
    )


def assert_says_what_is_missing(outcome):
    assert outcome.returncode == 5, (outcome.returncode, outcome.stdout, outcome.stderr)
    lines = outcome.stderr.splitlines()
    assert lines[0].startswith("dltrain: error: cannot write run/"), lines
    assert "File too large" in lines[0]
    assert "bytes are needed" in lines[0]
    assert len(lines) <= 6
    assert "Traceback" not in outcome.stdout + outcome.stderr


def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on(stopped, dltrain, tmp_path):
    shutil.copytree(stopped[0], tmp_path / "run")
    before = newest_step(tmp_path / "run")
    outcome = limited(("resume", "run"), tmp_path, 20_000)
    assert_says_what_is_missing(outcome)
    assert f"the last good checkpoint is that of step {before}" in outcome.stderr
    assert [read_checkpoint(path).step for path in steps_in(tmp_path / "run" / "checkpoints")]
    assert newest_step(tmp_path / "run") == before
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"
    assert dltrain("resume", "run").code == 0
    assert_same(tmp_path / "run", stopped[1])


@pytest.mark.slow
@pytest.mark.parametrize("max_bytes", [1, 500, 1500, 2500, 4000, 8000, 9500, 9999, 11_000, 12_500,
                                       17_000, 22_000, 24_500, 30_000, 34_000, 35_500])  # fmt: skip
def test_a_disk_that_is_full_anywhere(max_bytes, stopped, dltrain, tmp_path):
    outcome = limited(ARGUMENTS, tmp_path, max_bytes)
    assert_says_what_is_missing(outcome)
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".hydra"], "half of a file"
    going_on = (tmp_path / "run" / "config.yaml").exists()
    assert dltrain(*(("resume", "run") if going_on else ARGUMENTS)).code == 0
    assert_same(tmp_path / "run", stopped[1])


def as_anybody(argv):
    """The command without root's power to write where nobody allowed it to."""
    if os.getuid() != 0:
        return argv
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--", *argv]


def test_no_permission_is_exit_code_5_once_the_directory_exists(stopped, tmp_path):
    shutil.copytree(stopped[0], tmp_path / "run")
    (tmp_path / "run" / "checkpoints").chmod(0o555)
    argv = as_anybody([sys.executable, "-m", "dltrain", "resume", "run"])
    outcome = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert outcome.returncode == 5, outcome
    assert outcome.stderr.startswith("dltrain: error: cannot write run/checkpoints/")
    assert "Permission denied" in outcome.stderr
    assert [read_checkpoint(path).step for path in steps_in(tmp_path / "run" / "checkpoints")]


def test_a_directory_that_may_not_be_written_is_the_users_to_mend(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    argv = [sys.executable, "-m", "dltrain", "train", "hydra.run.dir=locked/run"]
    outcome = subprocess.run(as_anybody(argv), cwd=tmp_path, capture_output=True, text=True)
    assert outcome.returncode == 2, outcome
    assert "locked/run cannot be used: Permission denied" in outcome.stderr


def test_a_second_writer_is_refused_and_the_first_goes_on(start, dltrain, stopped, tmp_path):
    process = start(*ARGUMENTS)
    assert wait_for_step(process, tmp_path / "run", 5), process.communicate()
    before = (tmp_path / "run" / ".hydra" / "overrides.yaml").stat().st_mtime_ns
    for argv in (("resume", "run"), (*ARGUMENTS, "resume=auto"), ARGUMENTS):
        outcome = dltrain(*argv)
        assert outcome.code == 2, outcome
        assert "run is in use by another dltrain process" in outcome.err
    assert process.poll() is None
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert (tmp_path / "run" / ".hydra" / "overrides.yaml").stat().st_mtime_ns == before
    assert_same(tmp_path / "run", stopped[1])


def test_the_directory_of_a_killed_run_is_free_at_once(start, shell, tmp_path):
    process = start(*ARGUMENTS, "loader.num_workers=2")
    assert wait_for_step(process, tmp_path / "run", 5), process.communicate()
    process.kill()
    assert shell("resume", "run", "trainer.max_epochs=1").code == 0
