"""What the engine adds to a step: `dltrain train` with its defaults beside a hand-written loop.

    python scripts/bench/step_overhead.py [--rounds 9] [--steps 3000] [--threads N]

Both take the same steps on the same batches in memory: a 64-32-10 MLP, batches of 32, AdamW, cosine
schedule. The hand-written loop keeps what the engine keeps: sums of loss and hits on the device,
read every 50 steps; the schedule at every step; and a check that the loss and every gradient are
finite before the weights change. Everything that is on by default is on in the engine: progress,
TensorBoard, metrics.jsonl, EMA and its like off.

Rounds alternate; the ratio is taken within a round, and its median is printed with min and max.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from dltrain import build, build_data, build_loaders, runs
from dltrain.config.check import check
from dltrain.config.compose import compose, job_config
from dltrain.data.resident import Batch
from dltrain.engine.record import Recorder
from dltrain.engine.saver import Saver
from dltrain.schedulers.cosine import Cosine

WARM_UP_STEPS = 200
CPU = torch.device("cpu")
OVERRIDES = [
    "dataset=synthetic", "dataset.image_shape=[1,8,8]", "dataset.num_classes=10",
    "model.hidden_sizes=[32]", "loader.batch_size=32",
]  # fmt: skip


class Batches:
    """64 batches in memory, again and again; notes the time after the warm-up and at the end."""

    num_samples = batch_size = 32

    def __init__(self, num_steps: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.num_steps = num_steps
        self.batches = [
            Batch(
                torch.randn(32, 1, 8, 8, generator=generator),
                torch.randint(0, 10, (32,), generator=generator),
                torch.arange(32),
            )
            for _ in range(64)
        ]

    def __len__(self) -> int:
        return self.num_steps

    def epoch(self, epoch: int, start: int = 0):
        for step in range(self.num_steps):
            if step == WARM_UP_STEPS:
                self.begin = time.perf_counter()
            if step == self.num_steps - 1:
                self.end = time.perf_counter()
            yield self.batches[step % 64]

    def us_per_step(self) -> float:
        return (self.end - self.begin) / (self.num_steps - 1 - WARM_UP_STEPS) * 1e6


def plain_loop(config, batches: Batches) -> None:
    torch.manual_seed(0)
    model = build.make(config, "model").train()
    params = list(model.parameters())
    optimizer = torch.optim.AdamW(params, lr=1e-3, weight_decay=0.01, fused=True)
    schedule = Cosine(final_factor=0.0)
    found, one = torch.zeros(()), torch.ones(())
    loss_sum, hits, count = torch.zeros(()), torch.zeros((), dtype=torch.long), 0
    for step, (inputs, labels, _) in enumerate(batches.epoch(0)):
        logits = model(inputs)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        # The cheapest check there is: the kernel of torch.amp.GradScaler, as in the engine
        checked = [param.grad for param in params] + [loss.detach()]
        torch._amp_foreach_non_finite_check_and_unscale_(checked, found, one)
        if found.item():
            raise FloatingPointError(f"step {step}")
        optimizer.param_groups[0]["lr"] = 1e-3 * schedule(step / batches.num_steps)
        optimizer.step()
        optimizer.zero_grad()
        loss_sum += loss.detach() * len(labels)
        hits += (logits.argmax(1) == labels).sum()
        count += len(labels)
        if step % 50 == 49:
            _ = loss_sum.item() / count, hits.item() / count
            loss_sum, hits, count = torch.zeros(()), torch.zeros((), dtype=torch.long), 0


def engine(config, data, batches: Batches) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        metrics_log = runs.MetricsLog(run_dir / runs.METRICS)
        loggers = build.make_all(config, "loggers", ())
        saver = Saver(
            run_dir / "checkpoints", keep=2, monitor="accuracy/val", mode="max", config_digest=""
        )
        place = build_loaders.placement(config, data, CPU)
        loaders = {
            s: build_loaders.make_loader(config, data, s, CPU, place) for s in ("train", "val")
        }
        trainer = build.make_trainer(
            config,
            loaders,
            CPU,
            recorder=Recorder(metrics_log, loggers),
            saver=saver,
            threads="auto",
        )
        plan = {"num_steps": batches.num_steps, "steps_per_epoch": batches.num_steps}
        every = {"log_every": 50, "eval_every": batches.num_steps, "save_every": batches.num_steps}
        trainer.plan = type(trainer.plan)(max_time_sec=float("inf"), **plan, **every)
        trainer.train_loader = batches
        trainer.prepare()
        metrics_log.open()
        for logger in loggers.values():
            logger.start(run_dir, config=config, resume_step=None, state=None)
        trainer.fit()
        trainer.close()
        trainer.recorder.close("completed")
        metrics_log.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = check(job_config(compose(OVERRIDES)))
    data, batches = build_data.read_data(config), Batches(arguments.steps)
    loops = {
        "hand": lambda: plain_loop(config, batches),
        "dltrain": lambda: engine(config, data, batches),
    }
    times: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(arguments.rounds + 1):
        for name in sorted(loops, reverse=bool(number % 2)):
            loops[name]()
            times[name].append(batches.us_per_step())
    times = {name: values[1:] for name, values in times.items()}  # the first round warms up
    ratios = [a / b for a, b in zip(times["dltrain"], times["hand"], strict=True)]
    for name, values in times.items():
        spread = f"({min(values):.1f}..{max(values):.1f})"
        print(f"{name:<8} {statistics.median(values):7.1f} us a step {spread}")
    print(
        f"ratio    {statistics.median(ratios):7.3f} ({min(ratios):.3f}..{max(ratios):.3f}), "
        f"{arguments.rounds} rounds of {arguments.steps} steps, {torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
