"""A sweep of 16 learning rates of the digits' MLP, 5 epochs each: four ways of running it.

    python scripts/bench/sweep_stacked.py [--rounds 5] [--skip fresh] [--cpu-time]

In seconds of wall time (or of CPU, which others on the machine change less), each as a user would
start it, with all that a run leaves behind:

- `fresh`: 16 processes, one after another;
- `basic`: `dltrain train -m ... hydra/launcher=basic`, in one process, one after another;
- `local`: the same in processes that are kept warm, as many at once as there are cores;
- `stacked`: the same with `hydra/launcher=stacked`;
- `stacked, 64 runs`: of 64 learning rates.

Rounds take the ways in turn, so that a slow spell of the machine falls on all of them; ratios are
medians of those within a round.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SETTINGS = ("dataset=digits", "trainer.max_epochs=5")
RATES = [0.0005 * (1 + number) for number in range(64)]


def dltrain(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "dltrain", "train", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")


def fresh(folder: Path) -> None:
    for rate in RATES[:16]:
        dltrain(folder, *SETTINGS, f"optimizer.lr={rate:g}")


def sweep(launcher: str, count: int) -> Callable[[Path], None]:
    rates = ",".join(f"{rate:g}" for rate in RATES[:count])
    return lambda folder: dltrain(
        folder, "-m", *SETTINGS, f"optimizer.lr={rates}", f"hydra/launcher={launcher}"
    )


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


WAYS = {
    "fresh": fresh,
    "basic": sweep("basic", 16),
    "local": sweep("local", 16),
    "stacked": sweep("stacked", 16),
    "stacked, 64 runs": sweep("stacked", 64),
}
RATIOS = (
    ("fresh", "stacked"),
    ("basic", "stacked"),
    ("local", "stacked"),
    ("stacked, 64 runs", "stacked"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--skip", action="append", default=[], choices=list(WAYS))
    arguments = parser.parse_args()
    ways = {name: way for name, way in WAYS.items() if name not in arguments.skip}
    now = cpu_of_children if arguments.cpu_time else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(arguments.rounds):
        order = list(ways)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            with tempfile.TemporaryDirectory() as folder:
                begin = now()
                ways[name](Path(folder))
                times[name].append(now() - begin)
        print(" ".join(f"{name} {times[name][-1]:.2f}" for name in ways), flush=True)
    for name, found in times.items():
        print(f"{name:18} {statistics.median(found):7.2f} s", end="")
        print(f"  ({min(found):.2f} to {max(found):.2f}, {len(found)} rounds)")
    for first, second in RATIOS:
        if first in times and second in times:
            pairs = zip(times[first], times[second], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"{first} / {second}: {ratio:.2f}")
    print(f"load {' '.join(f'{each:.1f}' for each in os.getloadavg())}")


if __name__ == "__main__":
    main()
