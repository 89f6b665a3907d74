"""Hydra's own settings in a folder of configs run nothing; and what all of it costs in memory."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # pytest's importlib mode leaves that to us
from hostile import CHECKPOINTS, CONFIGS, IGNORED, PLACES

HANDLER = "{version: 1, handlers: {x: {(): os.system, command: touch canary}}}"
HYDRA = {
    "callbacks": "callbacks: {a: {_target_: os.system, command: touch canary}}",
    "callbacks of lists": "callbacks: {a: {_target_: subprocess.call, _args_: [[touch, canary]]}}",
    "job_logging": f"job_logging: {HANDLER}",
    "hydra_logging": f"hydra_logging: {HANDLER}",
    "launcher": "launcher: {_target_: os.system}",
    "sweeper": "sweeper: {_target_: os.system}",
}


@pytest.mark.parametrize("name", HYDRA)
@pytest.mark.parametrize("flags", [["--cfg=job"], ["-m", "seed=1,2"]], ids=["one", "sweep"])
def test_hydras_own_settings_run_nothing(name, flags, without_torch, tmp_path):
    flags = (
        ["--help"] if "logging" in name and "-m" in flags else flags
    )  # Hydra sets it up for both
    (tmp_path / "mine").mkdir()
    text = f"defaults: [train, _self_]\nhydra:\n  {HYDRA[name]}\n"
    (tmp_path / "mine" / "mine.yaml").write_text(text)
    outcome = without_torch("train", "--config-dir", "mine", "--config-name", "mine", *flags)
    assert not (tmp_path / "canary").exists()
    assert outcome.code == 2 or "-m" not in flags
    assert "Traceback" not in outcome.err
    assert len(outcome.err.splitlines()) <= 6


MEASURED = """
import sys
import_torch = sys.argv[1] == "torch"
if import_torch:
    import torch
from dltrain.cli import run
code = 0 if import_torch else run(sys.argv[1:])
peak = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
print(peak, int("torch" in sys.modules), file=sys.stderr, flush=True)
sys.exit(code)
"""


def measured(argv, cwd):
    """Exit code, what stderr said, peak memory in MB, whether torch was loaded, seconds."""
    start = time.monotonic()
    command = [sys.executable, "-c", MEASURED, *argv]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60)
    *lines, last = done.stderr.splitlines()
    peak, torch = last.split()
    return done.returncode, lines, int(peak) / 1024, torch == "1", time.monotonic() - start


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_every_hostile_run_stays_under_256_mb(finished_run, tmp_path):
    baseline = measured(["torch"], tmp_path)[2]
    wrong = []
    for name, change in (CONFIGS | PLACES | IGNORED | CHECKPOINTS).items():
        shutil.rmtree(tmp_path, ignore_errors=True)
        (tmp_path / "home").mkdir(parents=True)
        (tmp_path / "home" / "precious.txt").write_text("precious")
        change(shutil.copytree(finished_run, tmp_path / "r"))
        code, lines, peak, torch, seconds = measured(
            ["resume", "r", "trainer.max_epochs=3"], tmp_path
        )
        limit = 256 + (baseline if torch else 0)
        fine = code in ((0,) if name in IGNORED else (2, 3)) and len(lines) <= 6
        fine = fine and (tmp_path / "home" / "precious.txt").read_text() == "precious"
        if not fine or (tmp_path / "canary").exists() or peak > limit:
            wrong.append(
                f"{name}: exit {code}, {peak:.0f} of {limit:.0f} MB, {seconds:.1f} s: {lines}"
            )
    assert not wrong, "\n".join(wrong)
