"""The local launcher: two jobs at once beside one after the other, and warm beside fresh processes.

    python scripts/bench/sweep_local.py [--rounds 5] [--jobs 16]

`at once`: two jobs of some seconds each (a CNN on the digits) with sweep.jobs=2 and sweep.jobs=1.
`warm`: short runs (an epoch of an MLP on the digits) as one sweep, and as many `dltrain train`,
each a process of its own. Rounds alternate; a ratio is taken within a round, and its median is
printed with the smallest and the largest. All run with one thread.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

LONG = ("model=cnn", "trainer.max_epochs=15")
SHORT = ("trainer.max_epochs=1",)


def seconds(*commands: tuple[str, ...]) -> float:
    """Of `dltrain train` with each of the arguments, one after the other, from start to end."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        for arguments in commands:
            subprocess.run(
                [sys.executable, "-m", "dltrain", "train", *arguments],
                cwd=folder,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                check=True,
            )
        return time.perf_counter() - begin


def measure(name: str, variants: dict[str, tuple[tuple[str, ...], ...]], rounds: int) -> None:
    """Both variants in turn; the ratio of the first to the second."""
    times: dict[str, list[float]] = {variant: [] for variant in variants}
    for number in range(rounds):
        for variant in sorted(variants, reverse=bool(number % 2)):
            times[variant].append(seconds(*variants[variant]))
    first, second = variants
    ratios = [a / b for a, b in zip(times[first], times[second], strict=True)]
    for variant, found in times.items():
        spread = f"({min(found):.1f}..{max(found):.1f})"
        print(f"{name:<8} {variant:<20} {statistics.median(found):6.1f} s {spread}")
    print(
        f"{name:<8} {'ratio':<20} {statistics.median(ratios):6.3f} "
        f"({min(ratios):.3f}..{max(ratios):.3f}), {rounds} rounds, "
        f"load {os.getloadavg()[0]:.1f} at the end",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=16)
    arguments = parser.parse_args()
    two = ("-m", *LONG, "seed=0,1")
    measure(
        "at once",
        {"sweep.jobs=2": ((*two, "sweep.jobs=2"),), "sweep.jobs=1": ((*two, "sweep.jobs=1"),)},
        arguments.rounds,
    )
    seeds = range(arguments.jobs)
    measure(
        "warm",
        {
            "the local launcher": (("-m", *SHORT, f"seed={','.join(map(str, seeds))}"),),
            "fresh processes": tuple((*SHORT, f"seed={seed}") for seed in seeds),
        },
        arguments.rounds,
    )


if __name__ == "__main__":
    main()
