"""What a measured config waits for, in words, and what could be changed about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WORTH_CHANGING = 0.1  # of the time of a step that is lost to waiting for data
SMALL_STEP_SEC = 0.002  # most of a shorter step is overhead: Python's, and the kernels' launching
LONG_RUN_SEC = 120  # compiling takes 5 to 60 s


@dataclass(frozen=True)
class Facts:
    """What was measured, and where; times are seconds a step."""

    data: float
    step: float
    both: float
    waiting: float  # the part of `both` in which the loop waits for the next batch
    storage: str  # where the batches come from: device, host or stream
    num_workers: int
    device: str  # cpu or cuda
    precision: str
    cores: int
    run_sec: float  # the whole budget
    decodes: bool = False  # samples are files that are decoded one by one
    fits: bool = True  # it is in memory, and has a place in half of the device's that is free
    bf16: bool = False  # the hardware computes in it

    @property
    def lost(self) -> float:
        """The part of a step's time that it would be shorter by if data cost nothing."""
        return max(0.0, 1 - self.step / self.both)


def verdict(facts: Facts) -> str:
    """`the step: the data would be ready 14 times sooner; the loop waits 2% of the time for it`."""
    if facts.data > facts.step:
        text = f"the data: the step alone is {times(facts.data / facts.step)} as fast"
    else:
        text = f"the step: the data would be ready {times(facts.step / facts.data)} sooner"
    text += f"; the loop waits {facts.waiting:.0%} of its time for batches"
    if facts.lost > WORTH_CHANGING:
        text += f", and trains at {1 - facts.lost:.0%} of the speed of the step alone"
    return text


def times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def advice(facts: Facts, config: dict[str, Any]) -> list[str]:
    """What to change, the most telling first; at most four."""
    waits = min(facts.lost, facts.waiting) > WORTH_CHANGING
    data = list(about_data(facts, config)) if waits else []
    return [*data, *about_the_step(facts, config)][:4]


def about_data(facts: Facts, config: dict[str, Any]) -> Iterator[str]:
    dataset = config["dataset"]
    if facts.decodes:
        yield "dltrain prepare with prepare.store=uint8: read without decoding, from smaller images"
    if facts.decodes and "decode" in dataset and dataset["decode"] == "exact":
        yield "dataset.decode=fast: JPEGs in less time, with slightly other pixels"
    if facts.storage == "stream" and facts.fits and not facts.decodes:
        yield "loader.placement=device: the set is in memory, and needs no worker"
    if facts.storage == "host" and facts.fits:
        yield "loader.placement=device: the set fits into half of what is free there"
    if facts.storage == "stream" and facts.num_workers < facts.cores:
        yield f"loader.num_workers={facts.cores}: so many read ahead while a step is computed"
    elif facts.storage == "stream" and facts.data > facts.step:
        yield "more CPU cores: all of these read already"
    if config["augmentation"] and facts.storage != "stream":
        names = ", ".join(config["augmentation"])
        yield f"a cheaper augmentation ({names} now): it is computed between the steps"


def about_the_step(facts: Facts, config: dict[str, Any]) -> Iterator[str]:
    trainer, loader = config["trainer"], config["loader"]
    if facts.device == "cuda" and facts.precision == "fp32":
        yield "trainer.precision=bf16 (or tf32): matrix units compute several times as fast in it"
    elif facts.bf16 and facts.precision == "fp32" and facts.step > SMALL_STEP_SEC:
        yield "trainer.precision=bf16: this CPU computes in it, which pays with large layers"
    if not trainer["compile"] and facts.run_sec > LONG_RUN_SEC:
        yield "trainer.compile=true: 5 to 60 s at the start, and fewer, larger kernels"
    if facts.device == "cpu" and trainer["threads"] not in ("auto", facts.cores):
        yield f"trainer.threads=auto: as many of {facts.cores} as a step keeps busy"
    if facts.step < SMALL_STEP_SEC:
        larger = 4 * loader["batch_size"]
        yield (
            f"loader.batch_size={larger}: so short a step is mostly overhead, and larger ones cost "
            "less a sample; it is another training, and wants another optimizer.lr"
        )
