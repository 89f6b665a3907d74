"""What stands in the files that W&B itself writes offline, also of a run that went on."""

import json
import logging
import os
import re
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("wandb", reason="needs wandb: pip install 'dltrain[wandb]'")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

from dltrain.loggers.wandb import WandB  # noqa: E402

CONFIG = {"seed": 1, "choices": {"model": "mlp"}, "optimizer": {"lr": 0.1}}


def start(run_dir, *, mode="offline", state=None):
    run_dir.mkdir(exist_ok=True)
    logger = WandB(project="test", mode=mode, max_images=4)
    logger.start(run_dir, config=CONFIG, resume_step=5 if state else None, state=state)
    return logger


def records(run_dir):
    """Every record of every file, by W&B's own protocol."""
    from wandb.proto.wandb_internal_pb2 import Record

    for path in sorted(run_dir.glob("wandb/offline-run-*/*.wandb")):
        wait_until_still(path)
        for data in records_of_log(path.read_bytes()):
            yield path, Record.FromString(data)


def wait_until_still(path):
    """W&B's process ends a moment after the one that it serves."""
    while path.stat().st_size == 0 or time.time() - path.stat().st_mtime < 2:
        time.sleep(0.1)


def records_of_log(content):
    """LevelDB's log format, with a head of 7 bytes: blocks of 32 KiB, records in parts."""
    place, parts = 7, []
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        if kind == 0:
            return
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # all of a record, or its last part
            yield b"".join(parts)
            parts = []


def history(run_dir):
    rows = []
    for _, record in records(run_dir):
        if record.WhichOneof("record_type") == "history":
            values = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            rows.append(values | {"_step": record.history.step.num})
    return rows


def test_config_metrics_pictures_and_status_are_read_back(tmp_path):
    run_dir = tmp_path / "my_run"
    logger = start(run_dir)
    logger.log_scalars(5, {"loss/train": 0.5}, 1.0)
    logger.log_images(7, "images/train", np.zeros((4, 8, 8, 1), np.uint8), 1.0)
    logger.close("completed", 2.0)
    found = [record for _, record in records(run_dir)]
    (run,) = (r.run for r in found if r.WhichOneof("record_type") == "run")
    assert (run.project, run.display_name) == ("test", "my_run")
    config = {update.key: json.loads(update.value_json) for update in run.config.update}
    assert config["optimizer.lr"] == 0.1
    rows = history(run_dir)
    assert (rows[0]["_step"], rows[0]["loss/train"]) == (5, 0.5)
    assert rows[1]["images/train._type"] == "image-file"
    (end,) = (r.exit for r in found if r.WhichOneof("record_type") == "exit")
    assert end.exit_code == 0
    summary = {
        item.key: json.loads(item.value_json)
        for r in found
        if r.WhichOneof("record_type") == "summary"
        for item in r.summary.update
    }
    assert summary["status"] == "completed"


def test_a_run_goes_on_as_the_same_run(tmp_path):
    logger = start(tmp_path / "run")
    logger.log_scalars(5, {"loss/train": 0.5}, 1.0)
    state = logger.state_dict()
    logger.close("failed", 2.0)
    logger = start(tmp_path / "run", state=state)
    logger.log_scalars(6, {"loss/train": 0.4}, 1.0)
    logger.close("completed", 2.0)
    ids = {r.run.run_id for _, r in records(tmp_path / "run") if r.HasField("run")}
    assert ids == {state["id"]}
    assert [row["_step"] for row in history(tmp_path / "run")] == [5, 6]


KILLED = """
import os, pathlib, signal, sys
from dltrain.loggers.wandb import WandB

logger = WandB(project="test", mode="offline", max_images=4)
run_dir = pathlib.Path(sys.argv[1])
logger.start(run_dir, config={"seed": 1, "choices": {}}, resume_step=None, state=None)
for step in range(1, 201):
    logger.log_scalars(step, {"loss/train": float(step)}, 1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_no_step_is_missing_and_none_is_there_twice(tmp_path):
    """Of 200 steps W&B's process has written some; the run goes on from step 150 (or 50)."""
    for checkpoint in (150, 50):
        run_dir = tmp_path / f"run{checkpoint}"
        run_dir.mkdir()
        env = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}  # its own process
        command = [sys.executable, "-c", KILLED, str(run_dir)]
        killed = subprocess.run(command, timeout=120, env=env)
        assert killed.returncode == -signal.SIGKILL
        (path,) = run_dir.glob("wandb/offline-run-*/*.wandb")
        steps = [row["_step"] for row in history(run_dir)]
        state = {"id": path.stem.removeprefix("run-")}
        logger = start(run_dir, state=state)
        logger.log_again(
            [(step, {"loss/train": float(step)}, 1.0) for step in range(1, checkpoint + 1)]
        )
        for step in range(checkpoint + 1, 221):
            logger.log_scalars(step, {"loss/train": float(step)}, 1.0)
        logger.close("completed", 2.0)
        assert len(steps) <= 200
        found = [(row["_step"], row["loss/train"]) for row in history(run_dir)]
        assert sorted(found) == [(step, step) for step in range(1, 221)]


def test_a_run_that_was_killed_before_its_first_checkpoint_keeps_its_id(tmp_path):
    first = start(tmp_path / "run")
    first.close("failed", 1.0)
    again = start(tmp_path / "run")
    again.close("completed", 1.0)
    assert again.state_dict() == first.state_dict()


def test_without_a_login_a_run_is_logged_offline(tmp_path, monkeypatch, caplog):
    import wandb

    wandb.teardown()  # it has read the environment already
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr("dltrain.loggers.wandb.INIT_SEC", 2)
    with caplog.at_level(logging.WARNING, "dltrain"):
        logger = start(tmp_path / "run", mode="online")
        logger.log_scalars(5, {"loss/train": 0.5}, 1.0)
        logger.close("completed", 2.0)
    assert re.search(r"loggers\.wandb: .*; the run goes on", caplog.text)
    assert [row["_step"] for row in history(tmp_path / "run")] == [5]


def test_a_state_cannot_name_anything_but_a_run(tmp_path):
    with pytest.raises(ValueError, match="letters and digits"):
        start(tmp_path / "run", state={"id": "../x"})
