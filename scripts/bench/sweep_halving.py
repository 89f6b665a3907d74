"""Successive halving and the whole grid on digits: the same best setting? for how many epochs?

  python scripts/bench/sweep_halving.py [--seeds 3] [--monitor loss/val] [--first 3epochs] [--eta 3]

Trains 16 settings (8 learning rates, 2 sizes) for 18 epochs each, once all of them and once by
`hydra/sweeper=halving`, for each seed, and prints a line a seed. Counts epochs, not seconds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

EPOCHS = 18
JOBS = ("optimizer.lr=0.0001,0.0003,0.001,0.003,0.01,0.03,0.1,0.3",
        "model.hidden_sizes=[32],[128,128]")  # fmt: skip


def sweep(folder: Path, *argv: str) -> tuple[str, float, int]:
    """(the best job, its value, epochs of all together)."""
    command = [sys.executable, "-m", "dltrain", "train", "-m", *JOBS, f"hydra.sweep.dir={folder}",
               f"trainer.max_epochs={EPOCHS}", "loggers=none", *argv]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    done, epochs = {}, 0
    for file in sorted(folder.glob("*/summary.json")):
        summary = json.loads(file.read_text())
        epochs += summary["epoch"]
        if summary["status"] == "completed":
            done[file.parent.name] = summary["best"]["value"]
    better = min if "checkpoint.mode=min" in argv else max
    best = better(done, key=lambda name: done[name])
    return best, done[best], epochs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--monitor", default="loss/val")
    parser.add_argument("--first", default="3 epochs")
    parser.add_argument("--eta", type=int, default=3)
    args = parser.parse_args()
    mode = "min" if args.monitor.startswith("loss") else "max"
    monitor = (f"checkpoint.monitor={args.monitor}", f"checkpoint.mode={mode}")
    halving = ("hydra/sweeper=halving", f"sweep.halving.first={args.first}",
               f"sweep.halving.eta={args.eta}")  # fmt: skip
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            whole = sweep(Path(folder) / "grid", *monitor, f"seed={seed}")
            short = sweep(Path(folder) / "halving", *monitor, *halving, f"seed={seed}")
        same = "the same" if whole[0] == short[0] else "another"
        print(
            f"seed {seed}: grid {whole[0]} ({whole[1]:.4f}, {whole[2]} epochs), "
            f"halving {short[0]} ({short[1]:.4f}, {short[2]} epochs): {same}"
        )


if __name__ == "__main__":
    main()
