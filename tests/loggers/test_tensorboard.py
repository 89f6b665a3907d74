"""What TensorBoard's own readers see of a run, also of one that was killed and went on."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.metadata import (
    parse_session_end_info_plugin_data,
    parse_session_start_info_plugin_data,
)

from dltrain.loggers.events import event_files, read_records
from dltrain.loggers.summaries import END_TAG, LAYOUT_TAG, START_TAG
from dltrain.loggers.tensorboard import TensorBoard

CONFIG = {"seed": 1, "choices": {"model": "mlp"}, "optimizer": {"lr": 0.1, "nesterov": True}}


@pytest.fixture
def start():
    """Starts a logger. Those that a test leaves without `close` were killed."""
    loggers = []

    def start(run_dir, *, config=CONFIG, resume_step=None, state=None):
        logger = TensorBoard(charts=["loss"], max_images=64)
        logger.start(run_dir, config=config, resume_step=resume_step, state=state)
        loggers.append(logger)
        return logger

    yield start
    for logger in loggers:
        logger._file.close()


def log_steps(logger, steps, *, offset=0.0):
    for step in steps:
        logger.log_scalars(step, {"loss/train": step + offset, "optim/lr": 0.5}, float(step))


def checkpoint(logger):
    logger.flush()
    return logger.state_dict()


def read(run_dir):
    accumulator = EventAccumulator(str(run_dir), size_guidance={"tensors": 0})
    return accumulator.Reload()


def scalars(accumulator, tag):
    return [(event.step, event.tensor_proto.float_val[0]) for event in accumulator.Tensors(tag)]


def content(accumulator, tag):
    return accumulator.SummaryMetadata(tag).plugin_data.content


def test_scalars_are_read_back(start, tmp_path):
    logger = start(tmp_path)
    log_steps(logger, range(1, 4))
    logger.log_scalars(4, {"loss/train": float("nan")}, 4.0)
    logger.close("completed", 5.0)
    accumulator = read(tmp_path)
    assert accumulator.file_version == 2
    assert scalars(accumulator, "loss/train")[:3] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert np.isnan(scalars(accumulator, "loss/train")[3][1])
    assert [event.wall_time for event in accumulator.Tensors("optim/lr")] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("completed", api_pb2.STATUS_SUCCESS),
        ("failed", api_pb2.STATUS_FAILURE),
        ("interrupted", api_pb2.STATUS_UNKNOWN),
    ],
)
def test_hyperparameters_and_status_stand_in_the_runs_own_events(start, tmp_path, status, shown):
    logger = start(tmp_path)
    logger.close(status, 5.0)
    accumulator = read(tmp_path)
    info = parse_session_start_info_plugin_data(content(accumulator, START_TAG))
    values = {name: getattr(v, v.WhichOneof("kind")) for name, v in info.hparams.items()}
    assert values == {"seed": 1, "model": "mlp", "optimizer.lr": 0.1, "optimizer.nesterov": True}
    end = parse_session_end_info_plugin_data(content(accumulator, END_TAG))
    assert (end.status, end.end_time_secs) == (shown, 5.0)
    assert len(list(tmp_path.iterdir())) == 1


def test_text_and_config_are_read_back(start, tmp_path):
    logger = start(tmp_path)
    logger.log_text(3, "note", "**ä**", 1.0)
    logger.flush()
    (note,) = read(tmp_path).Tensors("note")
    assert (note.step, note.tensor_proto.string_val[0].decode()) == (3, "**ä**")
    (config,) = read(tmp_path).Tensors("config")
    assert "optimizer:\n  lr: 0.1\n" in config.tensor_proto.string_val[0].decode()


def test_layout_puts_the_splits_of_a_metric_into_one_chart(start, tmp_path):
    start(tmp_path)
    (event,) = read(tmp_path).Tensors(LAYOUT_TAG)
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    (chart,) = layout.category[0].chart
    assert (chart.title, list(chart.multiline.tag)) == ("loss", ["^loss/(train|val|test)$"])


def test_images_are_read_back_as_one_sheet(start, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    logger = start(tmp_path)
    logger.log_images(7, "inputs/train", images, 1.0)
    logger.close("completed", 2.0)
    (event,) = read(tmp_path).Tensors("inputs/train")
    width, height, png = event.tensor_proto.string_val
    assert (event.step, width, height) == (7, b"130", b"130")
    decoded = np.asarray(Image.open(io.BytesIO(png)))
    np.testing.assert_array_equal(decoded[66:, 66:], images[3])


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 8, 8, 1)), np.zeros((8, 8, 1), np.uint8), np.zeros((2, 3, 8, 8), np.uint8)],
)
def test_images_of_another_kind_are_refused(start, tmp_path, images):
    with pytest.raises(ValueError, match=r"inputs: images are .* uint8 \[N, H, W, C\]"):
        start(tmp_path).log_images(0, "inputs", images, 0.0)


def test_an_empty_batch_of_images_is_refused(start, tmp_path):
    with pytest.raises(ValueError, match="there is no image"):
        start(tmp_path).log_images(0, "inputs", np.zeros((0, 8, 8, 1), np.uint8), 0.0)


def test_a_resumed_run_reads_like_an_uninterrupted_one(start, tmp_path):
    logger = start(tmp_path)
    log_steps(logger, range(1, 6))
    state = checkpoint(logger)
    log_steps(logger, range(6, 9), offset=0.5)  # after the checkpoint: lost
    logger.close("failed", 1.0)
    logger = start(tmp_path, resume_step=5, state=state)
    log_steps(logger, range(6, 11))
    logger.close("completed", 2.0)

    every_step = [(step, float(step)) for step in range(1, 11)]
    assert scalars(read(tmp_path), "loss/train") == every_step
    # Nothing depends on the reader's purging: the lost steps are not on the disk.
    num_losses = sum(
        b"loss/train" in data for path in event_files(tmp_path) for _, data in read_records(path)
    )
    assert num_losses == 10
    end = parse_session_end_info_plugin_data(content(read(tmp_path), END_TAG))
    assert end.status == api_pb2.STATUS_SUCCESS
    assert len(read(tmp_path).Tensors("config")) == 1


def test_a_reader_that_watched_drops_the_lost_steps(start, tmp_path):
    logger = start(tmp_path)
    log_steps(logger, range(1, 6))
    state = checkpoint(logger)
    log_steps(logger, range(6, 9), offset=0.5)
    logger.flush()
    watcher = read(tmp_path)
    assert len(scalars(watcher, "loss/train")) == 8
    logger = start(tmp_path, resume_step=5, state=state)
    log_steps(logger, range(6, 8))
    logger.flush()
    watcher.Reload()
    assert scalars(watcher, "loss/train") == [(step, float(step)) for step in range(1, 8)]


def test_going_back_to_an_earlier_checkpoint_removes_younger_files(start, tmp_path):
    logger = start(tmp_path)
    log_steps(logger, range(1, 4))
    first = checkpoint(logger)
    logger = start(tmp_path, resume_step=3, state=first)
    log_steps(logger, range(4, 8), offset=0.5)
    logger.flush()
    assert len(event_files(tmp_path)) == 2
    logger = start(tmp_path, resume_step=3, state=first)
    log_steps(logger, range(4, 6))
    logger.flush()
    assert len(event_files(tmp_path)) == 2
    assert scalars(read(tmp_path), "loss/train") == [(step, float(step)) for step in range(1, 6)]


def test_a_checkpoint_without_our_state_goes_by_the_steps(start, tmp_path):
    logger = start(tmp_path)
    log_steps(logger, range(1, 9))
    logger.flush()
    logger = start(tmp_path, resume_step=5, state=None)
    log_steps(logger, [6], offset=0.25)
    logger.flush()
    expected = [(step, float(step)) for step in range(1, 6)] + [(6, 6.25)]
    assert scalars(read(tmp_path), "loss/train") == expected


@pytest.mark.parametrize("resume_step", [None, 0])
def test_a_run_that_starts_over_leaves_no_old_events(start, tmp_path, resume_step):
    log_steps(start(tmp_path), range(1, 4))
    other = tmp_path / "metrics.jsonl"
    other.write_text("kept")
    logger = start(tmp_path, resume_step=resume_step)
    log_steps(logger, [1], offset=0.5)
    logger.flush()
    assert len(event_files(tmp_path)) == 1
    assert scalars(read(tmp_path), "loss/train") == [(1, 1.5)]
    assert other.exists()


def test_events_that_were_lost_with_the_machine_do_not_stop_a_run(start, tmp_path):
    logger = start(tmp_path)
    log_steps(logger, range(1, 4))
    state = checkpoint(logger)
    for path in event_files(tmp_path):
        path.unlink()
    logger = start(tmp_path, resume_step=3, state=state)
    log_steps(logger, [4])
    logger.flush()
    accumulator = read(tmp_path)
    assert scalars(accumulator, "loss/train") == [(4, 4.0)]
    assert parse_session_start_info_plugin_data(content(accumulator, START_TAG)).hparams


def test_a_state_cannot_name_a_file_elsewhere(start, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    state = {"file": "../victim", "offset": 0, "config_crc": 0}
    start(run_dir, resume_step=3, state=state)
    start(run_dir, resume_step=3, state=state | {"file": str(victim)})
    assert victim.read_text() == "precious"


def test_a_changed_config_is_shown_at_the_step_where_it_changed(start, tmp_path):
    logger = start(tmp_path)
    log_steps(logger, [1, 2])
    changed = CONFIG | {"optimizer": {"lr": 0.01}}
    start(tmp_path, config=changed, resume_step=2, state=checkpoint(logger))
    texts = read(tmp_path).Tensors("config")
    assert [event.step for event in texts] == [0, 2]
    assert b"lr: 0.01" in texts[1].tensor_proto.string_val[0]


def test_importing_it_loads_nothing_heavy():
    code = "import dltrain.loggers.tensorboard, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {"torch", "numpy", "tensorboard.compat.tensorflow_stub", "hydra", "yaml"}


def test_max_images_must_be_positive():
    with pytest.raises(ValueError, match=r"max_images is 0; it must be >= 1"):
        TensorBoard(charts=[], max_images=0)


def test_ten_thousand_dense_steps_stay_under_a_megabyte_and_show_the_spike(tmp_path):
    logger = TensorBoard(charts=["loss"], max_images=64, windows=40)
    logger.start(tmp_path, config=CONFIG, resume_step=None, state=None)
    rng = np.random.default_rng(0)
    names = ["loss/train", "accuracy/train", "optim/lr", "optim/grad_norm"]
    names += ["time/samples_per_sec", "time/data"]
    for step in range(1, 10_001):
        values = dict(zip(names, rng.random(len(names)).tolist(), strict=True))
        logger.log_scalars(step, values | ({"loss/train": 99.0} if step == 7013 else {}), 1.0)
        if step % 500 == 0:
            logger.log_scalars(step, {"loss/val": float(step)}, 1.0)
    logger.close("completed", 2.0)
    (path,) = event_files(tmp_path)
    assert path.stat().st_size < 500_000
    accumulator = EventAccumulator(str(tmp_path)).Reload()  # TensorBoard's own sampling
    assert (7013, 99.0) in scalars(accumulator, "loss/train")
    assert len(scalars(accumulator, "loss/val")) == 20


def test_a_resumed_run_has_the_points_of_an_uninterrupted_one(start, tmp_path):
    def log(logger, steps):
        for step in steps:
            logger.log_scalars(step, {"loss/train": float(step * 37 % 101)}, 0.0)

    def begin(folder, **going_on):
        folder.mkdir(exist_ok=True)
        logger = TensorBoard(charts=[], max_images=1, windows=4)
        arguments = {"resume_step": None, "state": None} | going_on
        logger.start(folder, config=CONFIG, **arguments)
        return logger

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    logger = begin(whole)
    log(logger, range(1, 301))
    logger.close("completed", 1.0)
    logger = begin(parts)
    log(logger, range(1, 150))
    state = checkpoint(logger)
    log(logger, range(150, 200))
    logger.close("failed", 1.0)
    logger = begin(parts, resume_step=149, state=state)
    log(logger, range(150, 301))
    logger.close("completed", 1.0)
    assert scalars(read(parts), "loss/train") == scalars(read(whole), "loss/train")


def hyperparameters_read(run_dir):
    info = parse_session_start_info_plugin_data(content(read(run_dir), START_TAG))
    return {name: getattr(v, v.WhichOneof("kind")) for name, v in info.hparams.items()}, info


def test_hyperparams_changed_on_resume_take_the_place_of_the_old_ones(start, tmp_path):
    logger = start(tmp_path)
    log_steps(logger, [1, 2])
    older = checkpoint(logger)
    _, before = hyperparameters_read(tmp_path)
    changed = CONFIG | {"optimizer": {"lr": 0.01, "betas": [0.9, 0.99]}, "model": {"width": 8}}
    logger = start(tmp_path, config=changed, resume_step=2, state=older)
    log_steps(logger, [3])
    state = checkpoint(logger)
    values, after = hyperparameters_read(tmp_path)
    assert values == {
        "seed": 1, "model": "mlp", "optimizer.lr": 0.01, "optimizer.betas": "[0.9, 0.99]",
        "model.width": 8,
    }  # fmt: skip
    assert after.start_time_secs == before.start_time_secs
    start(tmp_path, config=CONFIG, resume_step=2, state=older)  # killed; back to what it was
    assert hyperparameters_read(tmp_path)[0]["optimizer.lr"] == 0.1
    assert [step for step, _ in scalars(read(tmp_path), "loss/train")] == [1, 2]
    assert state["file"] != older["file"]


def test_hyperparameters_that_find_no_room_do_not_break_the_file(start, tmp_path):
    logger = start(tmp_path)
    log_steps(logger, [1])
    many = CONFIG | {"model": {f"a_long_name_of_a_key_{n}": n for n in range(300)}}
    start(tmp_path, config=many, resume_step=1, state=checkpoint(logger))
    values, _ = hyperparameters_read(tmp_path)
    assert values["seed"] == 1
    assert 20 < len(values) < 300
    assert scalars(read(tmp_path), "loss/train") == [(1, 1.0)]


def test_a_session_that_ended_is_open_again_for_a_checkpoint_without_our_state(start, tmp_path):
    logger = start(tmp_path)
    log_steps(logger, [1, 2])
    logger.close("failed", 1.0)
    logger = start(tmp_path, resume_step=2, state=None)
    logger.close("completed", 2.0)
    end = parse_session_end_info_plugin_data(content(read(tmp_path), END_TAG))
    assert end.status == api_pb2.STATUS_SUCCESS


@pytest.mark.parametrize("thinning", [{}, {"begin": 1, "open": {"a": {}}}, {"begin": "x"}])
def test_a_state_of_windows_that_nobody_wrote_is_refused(tmp_path, thinning):
    logger = TensorBoard(charts=[], max_images=1, windows=4)
    state = {"file": "", "offset": 0, "config_crc": 0, "thinning": thinning or {"x": 1}}
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        logger.start(tmp_path, config=CONFIG, resume_step=1, state=state)
