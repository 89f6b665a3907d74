"""An epoch of the default job of ashleve/lightning-hydra-template: 28x28, 784-64-128-64-10, Adam.

    python scripts/bench/mnist_epoch.py [--rounds 7] [--threads 1] [--compile] [--cpu-time]

In samples/s, within one process, on data of MNIST's format that it makes itself:

- `dltrain`: `Trainer.train_step` and all that follows a step, on the training loader's batches;
- `repeated batch`: the same with one batch again and again, what a loader can reach at most;
- `hand-written`: a loop around torch's DataLoader with torchvision's MNIST, ToTensor and Normalize,
  the model, cross-entropy and torch.optim.Adam; `hand-written, 2 workers` the same with two;
- with --compile: the first two with `trainer.compile`.

--cpu-time counts the seconds of CPU that this process takes, which others on the machine change
less; workers, which are other processes, are left out then.

Beyond the project: torchvision.
"""

import argparse
import struct
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rounds import compare, say_ratio

from dltrain.build_data import read_data
from dltrain.commands.benchmark import make_trainer
from dltrain.config.check import check
from dltrain.config.compose import compose, job_config

NUM_TRAIN, NUM_TEST, BATCH_SIZE = 60_000, 10_000, 128
NUM_EPOCH = 55_000  # what the template trains on, and dltrain by dataset.num_val=5000
HAND_SAMPLES = 128 * 60  # of an epoch; it is the same work for each batch
OVERRIDES = [
    "dataset=mnist", "dataset.num_val=5000", "model.hidden_sizes=[64,128,64]", "model.norm=batch",
    "optimizer=adam", "optimizer.lr=0.001", "scheduler=constant", f"loader.batch_size={BATCH_SIZE}",
    "trainer.device=cpu",
]  # fmt: skip


class Clock:
    now = staticmethod(time.perf_counter)


CLOCK = Clock()


def write_mnist(folder: Path) -> None:
    """Random images and labels in the format of MNIST's files."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, number in (("train", NUM_TRAIN), ("t10k", NUM_TEST)):
        images = rng.integers(0, 256, (number, 28, 28), dtype=np.uint8)
        head = struct.pack(">IIII", 2051, number, 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        labels = rng.integers(0, 10, number, dtype=np.uint8)
        head = struct.pack(">II", 2049, number)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


class Engine:
    """The trainer of a config, without evaluations and checkpoints."""

    def __init__(self, root: str, *overrides: str) -> None:
        config = check(job_config(compose([*OVERRIDES, f"dataset.root={root}", *overrides])))
        self.trainer, _ = make_trainer(config, read_data(config), [])
        trainer = self.trainer
        never = dict.fromkeys(("num_steps", "eval_every", "save_every"), 1 << 60)
        trainer.plan = replace(trainer.plan, **never)
        trainer.prepare()
        trainer.start()
        self.epoch = 0
        self.same = next(trainer.train_loader.epoch(0))
        for batch in [
            self.same,
            *list(trainer.train_loader.epoch(0, len(trainer.train_loader) - 2)),
        ]:
            self.step(batch)

    def step(self, batch) -> None:
        self.trainer.train_step(batch)
        self.trainer.step += 1
        self.trainer.after_step()

    def run_epoch(self) -> float:
        begin = CLOCK.now()
        for batch in self.trainer.train_loader.epoch(self.epoch):
            self.step(batch)
        self.epoch += 1
        return NUM_EPOCH / (CLOCK.now() - begin)

    def run_repeated(self) -> float:
        num_steps = NUM_EPOCH // BATCH_SIZE
        begin = CLOCK.now()
        for _ in range(num_steps):
            self.step(self.same)
        return num_steps * BATCH_SIZE / (CLOCK.now() - begin)


class HandWritten:
    """The loop that everybody writes."""

    def __init__(self, root: str, num_workers: int) -> None:
        from torchvision import datasets, transforms

        transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
        )
        dataset = datasets.MNIST(root, train=True, transform=transform)
        self.loader = torch.utils.data.DataLoader(
            torch.utils.data.Subset(dataset, range(HAND_SAMPLES)),
            batch_size=BATCH_SIZE,
            shuffle=True,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
        )
        layers, width = [torch.nn.Flatten()], 784
        for hidden in (64, 128, 64):
            layers += [
                torch.nn.Linear(width, hidden),
                torch.nn.BatchNorm1d(hidden),
                torch.nn.ReLU(),
            ]
            width = hidden
        self.model = torch.nn.Sequential(*layers, torch.nn.Linear(width, 10))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.001)

    def run(self) -> float:
        begin = CLOCK.now()
        for inputs, labels in self.loader:
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(inputs), labels).backward()
            self.optimizer.step()
        return HAND_SAMPLES / (CLOCK.now() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    if arguments.cpu_time:
        CLOCK.now = time.process_time
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as root:
        write_mnist(Path(root) / "MNIST" / "raw")
        threads = f"trainer.threads={arguments.threads}"
        engine = Engine(root, threads)
        variants = {"dltrain": engine.run_epoch, "repeated batch": engine.run_repeated}
        if arguments.compile:
            compiled = Engine(root, threads, "trainer.compile=true")
            variants["dltrain, compiled"] = compiled.run_epoch
            variants["repeated batch, compiled"] = compiled.run_repeated
        variants["hand-written"] = HandWritten(root, 0).run
        if not arguments.cpu_time:
            variants["hand-written, 2 workers"] = HandWritten(root, 2).run
        values = compare(
            variants, rounds=arguments.rounds, unit="samples/s", against="hand-written"
        )
    say_ratio(values, "dltrain", "repeated batch")
    if arguments.compile:
        say_ratio(values, "dltrain, compiled", "repeated batch, compiled")
        say_ratio(values, "dltrain, compiled", "dltrain")


if __name__ == "__main__":
    main()
