"""What MLflow itself reads back of a run, also of one that was killed and went on."""

import logging
import math
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("mlflow", reason="needs mlflow: pip install 'dltrain[mlflow]'")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

from dltrain.loggers.mlflow import MLflow  # noqa: E402

CONFIG = {"seed": 1, "choices": {"model": "mlp"}, "optimizer": {"lr": 0.1}}


@pytest.fixture
def uri(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts of a database of one's own
    return f"sqlite:///{tmp_path}/mlflow.db"


def start(run_dir, uri, *, config=CONFIG, state=None):
    run_dir.mkdir(exist_ok=True)
    logger = MLflow(experiment="test", tracking_uri=uri, max_images=4)
    logger.start(run_dir, config=config, resume_step=5 if state else None, state=state)
    return logger


def runs_of(uri):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    return client, client.search_runs([client.get_experiment_by_name("test").experiment_id])


def test_config_metrics_pictures_and_status_are_read_back(tmp_path, uri):
    logger = start(tmp_path / "my_run", uri)
    logger.log_scalars(5, {"loss/train": 0.5, "optim/lr": math.nan}, 100.0)
    logger.log_images(5, "images/train", np.zeros((4, 8, 8, 1), np.uint8), 100.0)
    logger.log_picture(5, "confusion/test", np.zeros((30, 40, 3), np.uint8), 100.0)
    logger.close("completed", 200.0)
    client, (run,) = runs_of(uri)
    assert run.info.run_name == "my_run"
    assert (run.info.status, run.info.end_time) == ("FINISHED", 200_000)
    assert run.data.params == {"model": "mlp", "seed": "1", "optimizer.lr": "0.1"}
    (metric,) = client.get_metric_history(run.info.run_id, "loss/train")
    assert (metric.step, metric.value, metric.timestamp) == (5, 0.5, 100_000)
    assert [each.path for each in client.list_artifacts(run.info.run_id, "confusion")] == [
        "confusion/test.png"
    ]


@pytest.mark.parametrize(("status", "shown"), [("failed", "FAILED"), ("interrupted", "KILLED")])
def test_a_run_that_ended_otherwise_shows_it(tmp_path, uri, status, shown):
    start(tmp_path / "run", uri).close(status, 1.0)
    _, (run,) = runs_of(uri)
    assert run.info.status == shown


def test_a_run_goes_on_as_the_same_run_and_no_point_is_there_twice(tmp_path, uri):
    logger = start(tmp_path / "run", uri)
    for step in range(1, 6):
        logger.log_scalars(step, {"loss/train": float(step)}, float(step))
    state = logger.state_dict()
    for step in range(6, 9):  # after the checkpoint
        logger.log_scalars(step, {"loss/train": float(step)}, float(step))
    logger.close("failed", 1.0)
    changed = CONFIG | {"optimizer": {"lr": 0.01}}
    logger = start(tmp_path / "run", uri, config=changed, state=state)
    for step in range(6, 11):
        logger.log_scalars(step, {"loss/train": float(step)}, float(step))
    logger.close("completed", 2.0)
    client, (run,) = runs_of(uri)
    history = client.get_metric_history(run.info.run_id, "loss/train")
    assert sorted(metric.step for metric in history) == list(range(1, 11))
    assert run.info.status == "FINISHED"
    assert run.data.tags["changed.optimizer.lr"] == "0.01"


KILLED = """
import os, pathlib, signal, sys
from dltrain.loggers.mlflow import MLflow

logger = MLflow(experiment="test", tracking_uri=sys.argv[1], max_images=4)
config = {"seed": 1, "choices": {"model": "mlp"}, "optimizer": {"lr": 0.1}}
logger.start(pathlib.Path("run"), config=config, resume_step=None, state=None)
print(logger.state_dict()["run_id"], flush=True)
for step in range(1, 201):
    logger.log_scalars(step, {"loss/train": float(step)}, 1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_no_step_is_missing_and_none_is_there_twice(tmp_path, uri):
    """The thread had not sent all of its 200 steps; the run goes on from step 150."""
    command = [sys.executable, "-c", KILLED, uri]
    killed = subprocess.run(command, timeout=120, stdout=subprocess.PIPE, text=True)
    assert killed.returncode == -signal.SIGKILL
    client, (run,) = runs_of(uri)
    sent = client.get_metric_history(run.info.run_id, "loss/train")
    assert len(sent) < 150
    logger = start(tmp_path / "run", uri, state={"run_id": killed.stdout.strip()})
    logger.log_again([(step, {"loss/train": float(step)}, 1.0) for step in range(1, 151)])
    for step in range(151, 211):
        logger.log_scalars(step, {"loss/train": float(step)}, 1.0)
    logger.close("completed", 2.0)
    client, (run,) = runs_of(uri)
    history = client.get_metric_history(run.info.run_id, "loss/train")
    assert sorted(metric.step for metric in history) == list(range(1, 211))


def test_a_run_that_the_store_does_not_know_begins_anew(tmp_path, uri):
    start(tmp_path / "run", uri, state={"run_id": "0" * 32}).close("completed", 1.0)
    assert len(runs_of(uri)[1]) == 1


def test_a_server_that_is_not_there_does_not_stop_a_run(tmp_path, uri, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING, "dltrain"):
        logger = start(tmp_path / "run", "http://127.0.0.1:9")
        logger.log_scalars(1, {"loss/train": 1.0}, 1.0)
        assert logger.state_dict() == {"run_id": None}
        logger.close("completed", 1.0)
    assert "loggers.mlflow: " in caplog.messages[0]
    assert "the run goes on" in caplog.messages[0]


def test_a_state_cannot_name_anything_but_a_run(tmp_path, uri):
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        start(tmp_path / "run", uri, state={"run_id": "../x"})
