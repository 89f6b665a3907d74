"""`dltrain benchmark`: where the time of a config goes, and what its training waits for."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from dltrain import build, cores
from dltrain.build_data import Data, read_data
from dltrain.build_loaders import NoSamples, Placement, fits_device, make_loader, placement
from dltrain.commands import advice, console
from dltrain.commands.checked import checked
from dltrain.commands.failures import enough_memory, storage_errors
from dltrain.commands.hydra_app import choices_of
from dltrain.commands.job import check_device, check_weights_exist, refuse_several_processes
from dltrain.commands.train import parse, take_allowed_targets
from dltrain.config import compose as composing
from dltrain.errors import UserError

if TYPE_CHECKING:
    from dltrain.engine.measure import Measured
    from dltrain.engine.plan import Plan
    from dltrain.engine.trainer import Trainer

HELP = """\
usage: dltrain benchmark [key=value ...] [--seconds S] [--config-dir DIR] [--config-name NAME]
                         [--allow-target PACKAGE]

Measures what `dltrain train` with the same arguments would do, and writes nothing:
  data    the training batches alone, augmented, on the device
  step    one batch again and again: forward, backward, update
  both    as training does it
Then it says what the run waits for, how long it would take, and what to change.

  dltrain benchmark model=cnn
  dltrain benchmark model=cnn augmentation=crop_flip loader.batch_size=256

--seconds S: measure for about so long (12); three rounds are taken in any case. Medians of the
rounds are shown with the smallest and the largest: where they are far apart, measure again.
"""
SECONDS = 12.0
# What shows or writes, and does not train
LEFT_OUT = ("progress", "profiler")


class Nowhere:
    """Takes the rows of metrics.jsonl."""

    def append(self, row: dict[str, Any]) -> None: ...

    def offset(self) -> int:
        return 0

    def rows(self) -> Iterator[dict[str, Any]]:
        return iter(())


def main(argv: list[str]) -> int:
    """Returns the exit code; raises DltrainError for what the user can mend."""
    if "-h" in argv or "--help" in argv:
        print(HELP, end="")
        return 0
    seconds, argv = take_seconds(argv)
    allowed, argv = take_allowed_targets(argv)
    config, choices = composed(argv, allowed)
    refuse_several_processes()
    check_device(config["trainer"])
    check_weights_exist(config)
    with storage_errors():
        data = read_data(config, allowed, console.progress())
    with console.logging_to_screen(), enough_memory():
        trainer, place = make_trainer(config, data, allowed)
        plan = trainer.plan
        console.say_what_is_trained(config, choices, trainer, data, place.why)
        from dltrain.engine.measure import measure

        try:
            measured = measure(trainer, seconds)
        finally:
            trainer.close()
            trainer.train_loader.close()
    say_times(measured, config["loader"]["batch_size"])
    run_sec = say_length(measured, plan, config)
    say_what_to_change(facts_of(measured, trainer, data, place, run_sec), config)
    return 0


def take_seconds(argv: list[str]) -> tuple[float, list[str]]:
    """The value of `--seconds`, and the arguments that are left."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--seconds", default=str(SECONDS))
    try:
        known, rest = parser.parse_known_args(argv)
        seconds = float(known.seconds)
    except (argparse.ArgumentError, ValueError):
        seconds = math.nan
    if not 0 < seconds <= 3600:
        raise UserError("--seconds must be followed by a number > 0 and <= 3600")
    return seconds, rest


def composed(argv: list[str], allowed: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The checked config of the job that `dltrain train` would run, and the choices in it."""
    args = parse(argv)
    for flag in ("multirun", "cfg", "info", "resolve", "hydra_help"):
        if getattr(args, flag):
            flag = flag.replace("_", "-")
            raise UserError(f"--{flag} belongs to `dltrain train`; benchmark measures one config")
    config = {"config_name": args.config_name or "train", "user_config_dir": args.config_dir}
    cfg = composing.compose(args.overrides, **config)
    if str(OmegaConf.select(cfg, "hydra.mode")).endswith("MULTIRUN"):
        raise UserError("hydra.mode=MULTIRUN is a sweep; benchmark measures one config")
    return checked(composing.job_config(cfg), allowed=allowed), choices_of(cfg)


def make_trainer(
    config: dict[str, Any], data: Data, allowed: list[str]
) -> tuple[Trainer, Placement]:
    """The trainer of a run that writes nothing, and where its data lies."""
    from dltrain.engine.device import choose_device
    from dltrain.engine.record import Recorder
    from dltrain.engine.saver import Saver

    device = choose_device(config["trainer"]["device"])
    place = placement(config, data, device, allowed)
    train_loader = make_loader(
        config, data, "train", device, place, allowed=allowed, progress=console.progress()
    )
    val_loader = NoSamples()  # evaluations never come, but a monitor may ask for them
    val_loader.num_samples = len(data.splits["val"].targets)
    callbacks = {k: v for k, v in (config["callbacks"] or {}).items() if k not in LEFT_OUT}
    settings = config["checkpoint"]
    names = {name: settings[name] for name in ("keep", "monitor", "mode")}
    trainer = build.make_trainer(
        config | {"callbacks": callbacks},
        {"train": train_loader, "val": val_loader},
        device,
        recorder=Recorder(Nowhere(), {}),
        saver=Saver(Path(os.devnull), config_digest="", **names),
        threads=config["trainer"]["threads"],
        allowed=allowed,
    )
    return trainer, place


def facts_of(
    measured: Measured, trainer: Trainer, data: Data, place: Placement, run_sec: float
) -> advice.Facts:
    import numpy as np

    from dltrain.engine.device import choose_precision

    device, inputs = trainer.device, data.splits["train"].inputs
    in_memory = isinstance(inputs, np.ndarray)
    return advice.Facts(
        data=measured.median("data"),
        step=measured.median("step"),
        both=measured.median("both"),
        waiting=measured.median("waiting"),
        storage=place.storage,
        num_workers=place.num_workers,
        device=device.type,
        precision=trainer.precision,
        cores=cores.given(),
        run_sec=run_sec,
        decodes=place.storage == "stream" and getattr(inputs, "decodes", False),
        fits=in_memory and fits_device(inputs.nbytes, device),
        bf16=choose_precision("auto", device) == "bf16",
    )


# ---------------------------------------------------------------------- what it says


def say_times(measured: Measured, batch_size: int) -> None:
    """A table: a step's time, its spread over the rounds, and the samples a second."""
    count = len(measured.both)
    print(f"\n{'':<8}{'a step':>10}   {'over ' + str(count) + ' rounds':<22}{'samples/s':>12}")
    for part in ("data", "step", "both"):
        values, median = getattr(measured, part), measured.median(part)
        spread = f"({in_units(min(values))} .. {in_units(max(values))})"
        print(f"{part:<8}{in_units(median):>10}   {spread:<22}{batch_size / median:>12,.0f}")
    print()


def say_length(measured: Measured, plan: Plan, config: dict[str, Any]) -> float:
    """Says how long an epoch and the budget take; gives the latter in seconds."""
    both = measured.median("both")
    epoch = plan.steps_per_epoch * both + measured.epoch_start_sec
    steps = math.inf if plan.num_steps is None else plan.num_steps
    run_sec = min(steps / plan.steps_per_epoch * epoch, plan.max_time_sec)
    num_epochs = run_sec / epoch
    say(
        "takes",
        f"{in_words(epoch)} an epoch, {in_words(run_sec)} the whole budget ({num_epochs:.4g} "
        "epochs); evaluations and checkpoints come on top",
    )
    return run_sec


def say_what_to_change(facts: advice.Facts, config: dict[str, Any]) -> None:
    say("waits for", advice.verdict(facts))
    for number, line in enumerate(advice.advice(facts, config)):
        say("try" if number == 0 else "", line)


def say(what: str, text: str) -> None:
    """A paragraph with a hanging indent, as wide as the terminal."""
    width = max(40, shutil.get_terminal_size((100, 24)).columns)
    print(
        textwrap.fill(
            text,
            width,
            initial_indent=f"{what:<11}",
            subsequent_indent=" " * 11,
            break_on_hyphens=False,
        )
    )


def in_units(seconds: float) -> str:
    """`35.1 us`, `4.32 ms`, `1.27 s`: three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size or unit == "us":
            value = seconds / size
            break
    digits = max(0, 2 - int(math.log10(value))) if value >= 1 else 2
    return f"{value:.{digits}f} {unit}"


def in_words(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min`, `2.5 h`, `3 days`."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else in_units(seconds)
