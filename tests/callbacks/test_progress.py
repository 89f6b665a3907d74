"""Plain lines in a pipe, a bar that fits on a terminal, and no screen that could stop a run."""

import os
import pty
import re
import subprocess
import sys
import textwrap

import pytest

from dltrain.callbacks.progress import Output, Progress
from dltrain.callbacks.progress_bar import draw, fit
from dltrain.engine.callback import Callback, overriding

# A run of ten epochs, as a program of its own: it owns its screen.
PROGRAM = textwrap.dedent(
    """
    import sys, time, types
    from dltrain.callbacks.progress import Progress
    trainer = types.SimpleNamespace(step=0, num_steps=100)
    trainer.epoch_at = lambda step: step / 10
    trainer.progress, trainer.best = 0.0, None
    progress = Progress(line_every_sec=LINE_EVERY_SEC)
    progress.on_fit_start(trainer)
    for step in range(1, 101):
        trainer.step, trainer.progress = step, step / 100
        if step % 5 == 0:
            row = {"split": "train", "loss": 1 / step, "accuracy": 0.5, "samples_per_sec": 1234.5}
            progress.on_log(trainer, row)
        if step % 10 == 0:
            trainer.best = {"step": 50, "value": 0.5}
            progress.on_evaluate(trainer, "val", {"loss": 2 / step, "accuracy": 0.25})
        time.sleep(SLEEP_SEC)
    progress.on_fit_end(trainer)
    sys.stderr.write("rich" if "rich" in sys.modules else "plain")
    """
)


def program(line_every_sec=1000.0, sleep_sec=0.0):
    text = PROGRAM.replace("LINE_EVERY_SEC", str(line_every_sec))
    return [sys.executable, "-c", text.replace("SLEEP_SEC", str(sleep_sec))]


def run_on_terminal(columns, *, kind="xterm"):
    """(what came out, exit code) of the program on a terminal so wide."""
    environment = os.environ | {"TERM": kind, "COLUMNS": str(columns)}
    terminal, inside = pty.openpty()
    screen = {"stdin": inside, "stdout": inside, "stderr": inside}
    process = subprocess.Popen(program(sleep_sec=0.01), env=environment, **screen)
    os.close(inside)
    chunks = []
    try:
        while chunk := os.read(terminal, 65536):
            chunks.append(chunk)
    except OSError:  # how a terminal says that its program has ended
        pass
    os.close(terminal)
    return b"".join(chunks).decode(), process.wait()


def test_a_pipe_gets_the_first_and_the_last_line_and_no_control_characters():
    done = subprocess.run(program(), capture_output=True, text=True, check=True)
    first, last = done.stdout.splitlines()
    assert first.startswith(
        "epoch 1/10  accuracy/val 0.2500  loss/val 0.2000  loss/train 0.1000  "
        "accuracy/train 0.5000  step 10  1,234 samples/s"
    )
    assert last.startswith("epoch 10/10  accuracy/val 0.2500  loss/val 0.0200")
    assert done.stdout.isascii()
    assert done.stdout.replace("\n", "").isprintable()
    assert done.stderr == "plain"


def test_a_pipe_gets_every_evaluation_where_there_is_time():
    done = subprocess.run(program(0.0), capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == [f"epoch {n}/10" for n in range(1, 11)]
    assert ["  best  " in line for line in lines] == [n == 5 for n in range(1, 11)]


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_nothing_on_a_terminal_is_wider_than_it(columns):
    screen, code = run_on_terminal(columns)
    assert code == 0
    frames = re.split(r"\x1b\[2K|\r|\n", screen)
    shown = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", frame) for frame in frames]
    assert max(len(frame) for frame in shown) <= columns
    assert any("━" in frame for frame in shown)
    assert "epoch 1/10" in screen
    assert "epoch 10/10" in screen
    assert screen.rstrip().endswith("rich")
    assert screen.rfind("\x1b[?25h") > screen.rfind("\x1b[?25l")  # the cursor is shown again


def test_a_dumb_terminal_gets_plain_lines():
    screen, code = run_on_terminal(200, kind="dumb")
    assert code == 0
    assert "\x1b" not in screen
    assert screen.endswith("plain")


def test_a_closed_or_broken_or_full_screen_does_not_stop_a_run():
    command = program(0.0, 0.005)
    command[-1] += "print('and what others print does not either', flush=True)\n"
    for redirection in (">&-", "| head -1 > /dev/null", "> /dev/full"):
        script = f'set -o pipefail; "$@" {redirection}'
        done = subprocess.run(
            ["bash", "-c", script, "bash", *command], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "plain"), redirection


def test_a_closed_stream_falls_silent(tmp_path):
    stream = (tmp_path / "screen").open("w")
    stream.close()
    output = Output(stream)
    assert not output.is_terminal()
    output.line("nobody reads this")
    output.line("nor this")


def test_a_step_costs_nothing():
    progress: Callback = Progress(line_every_sec=1)
    assert overriding([progress], "after_update") == []


def test_a_resumed_run_takes_the_time_left_from_its_own_speed(run, monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr("dltrain.callbacks.progress.time.monotonic", lambda: now)
    progress = Progress(line_every_sec=0)
    progress.on_fit_start(run)
    progress._parts(run)  # the drawing thread looks already
    run.step, now = 50, 100.0  # a checkpoint was loaded, slowly
    progress.on_log(run, {"split": "train", "loss": 1.0})
    run.step, now = 60, 110.0  # 1 s a step
    progress.on_evaluate(run, "val", {"loss": 1.0})
    assert capsys.readouterr().out.endswith("step 60  0:40 left\n")


def test_a_long_epoch_is_not_silent(run, monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr("dltrain.callbacks.progress.time.monotonic", lambda: now)
    progress = Progress(line_every_sec=2)
    progress.on_fit_start(run)
    for run.step in range(1, 8):
        now += 20.0
        progress.on_log(run, {"split": "train", "loss": 1.0})
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "epoch 0.4/10"
    ]


def test_a_run_bounded_by_time_alone_has_no_last_epoch(run, capsys):
    run.num_steps = None
    progress = Progress(line_every_sec=2)
    progress.on_fit_start(run)
    run.step = 25
    progress.on_evaluate(run, "val", {"loss": 1.0})
    assert capsys.readouterr().out == "epoch 2.5  loss/val 1.0000  step 25\n"


@pytest.mark.parametrize("width", [0, 1, 7, 8, 20, 39, 79, 200])
def test_the_bar_fits(width):
    parts = ["epoch 3.5/10", "1:20 left", "", "loss/train 0.1234", "accuracy/val 0.9876"]
    for progress in (0.0, 0.3, 1.0, 1.2):
        line = draw(progress, parts, width, ascii_only=True).plain
        assert len(line) <= width
    assert line.count("#") == min(max(width - len(line.lstrip("#")), 0), 30)
    assert "." not in line.split("  ")[0]


def test_what_matters_less_is_left_out_first():
    assert fit(["aa", "bbbb", "", "c"], 13) == ["aa", "bbbb", "c"]
    assert fit(["aa", "bbbb", "", "c"], 12) == ["aa", "bbbb"]
    assert fit(["aa", "bbbb", "", "c"], 7) == ["aa", "c"]


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="line_every_sec is -1; it must be >= 0"):
        Progress(line_every_sec=-1)


def test_waiting_for_data_is_shown_where_it_matters():
    progress = Progress(line_every_sec=1000)
    progress.samples_per_sec = 1234.5
    assert progress._speed() == "1,234 samples/s"
    progress.data_share = 0.62
    assert progress._speed() == "1,234 samples/s, 62% data"
