"""`dltrain compare` of many runs, from its start to its last line.

    python scripts/bench/compare_runs.py [--runs 500] [--rounds 5]

A run of two epochs is trained once, and its small files (config.yaml, run.json, summary.json,
metrics.jsonl) are copied under learning rates and seeds of their own; no copy is linked. Seconds of
the whole process: the median of the rounds, the least and the largest, of a row a run, of a row a
setting, and of a metric that is read from every metrics.jsonl.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

NUM_SEEDS = 5
TABLES = {
    "a row a run": (),
    "a row a setting": ("--group", "seed"),
    "loss/val:min": ("--group", "seed", "--metrics", "loss/val:min"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_runs(place, asked.runs)
        for name, options in TABLES.items():
            times = [seconds("compare", str(place / "runs"), *options) for _ in range(asked.rounds)]
            print(
                f"{name:<16} {asked.runs} runs: {statistics.median(times):.2f} s "
                f"({min(times):.2f} to {max(times):.2f})"
            )


def make_runs(place: Path, count: int) -> None:
    seconds("train", f"hydra.run.dir={place / 'first'}", "trainer.max_epochs=2", "loggers=none")
    texts = {
        name: (place / "first" / name).read_text()
        for name in ("config.yaml", "run.json", "summary.json", "metrics.jsonl")
    }
    config, summary = yaml.safe_load(texts["config.yaml"]), json.loads(texts["summary.json"])
    for number in range(count):
        config["optimizer"]["lr"], config["seed"] = number // NUM_SEEDS / 1000, number % NUM_SEEDS
        summary["best"]["value"] = 0.5 + number / 10_000
        texts["config.yaml"] = yaml.safe_dump(config, sort_keys=False)
        texts["summary.json"] = json.dumps(summary)
        run = place / "runs" / f"{number}_lr={config['optimizer']['lr']}_seed={config['seed']}"
        run.mkdir(parents=True)
        for name, text in texts.items():
            (run / name).write_text(text)


def seconds(*arguments: str) -> float:
    begin = time.perf_counter()
    command = [sys.executable, "-m", "dltrain", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
