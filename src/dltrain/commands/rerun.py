"""`dltrain rerun RUN`: trains again from a run's record: is the result the same?"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from dltrain import runs
from dltrain.cli import tell
from dltrain.commands.checked import checked
from dltrain.commands.job import run_job
from dltrain.commands.opening import Asked, asked_by, shown_path
from dltrain.commands.provenance import changes_since, kind_of, settings_digest
from dltrain.commands.run import Job
from dltrain.commands.signals import SIGNALS
from dltrain.effects import MAY_BE_REMADE
from dltrain.errors import UserError
from dltrain.plain import printable
from dltrain.sameness import Sameness, check_comparable, compare_runs
from dltrain.stored import apply_overrides, not_taken_over, stored_choices, stored_config

HELP = """\
usage: dltrain rerun RUN [key=value ...] [--allow-target PACKAGE]

Trains the run in the directory RUN (or `latest`) again, from its record, into a new directory:
the same config, kind of device, threads and precision. Then says of every metric and of the
weights whether they are the same to the last bit, and what has changed since: docs/reproduce.md.

  dltrain rerun latest
  dltrain rerun outputs/digits_mlp/2026-11-23_09-02-11 hydra.run.dir=again
  dltrain rerun latest dataset.root=/data/mnist            # the data has moved

What may be typed changes no number, or is asked for on purpose: hydra.run.dir, name, loggers,
dataset.root, dataset.download, dataset.cache, dataset.cache_limit_gb, loader.num_workers,
loader.placement, trainer.device, trainer.threads.

Exit code 0: the same; 6: different, or not known.
"""
OWN = ("hydra.run.dir",)
DIFFERENT = 6
UNKNOWN = "not known to be the same"
REPORT = "rerun.json"
MAX_LINES = 30
MAX_NAME = 80  # characters of the old run's name in the new one's


def main(argv: list[str]) -> int:
    """Returns the exit code; raises DltrainError for what the user can mend."""
    if not argv or "-h" in argv or "--help" in argv:
        print(HELP, end="")
        return 0
    asked = asked_by("rerun", argv, OWN, MAY_BE_REMADE)
    runs.refuse_links(asked.run_dir)
    old = Before(asked.run_dir)
    job, notes = job_of(asked, old)
    with whatever_the_screen(None):
        for note in [*old.notes(), *notes]:
            print(f"note: {note}")
    check_comparable(asked.run_dir, completed=old.completed)
    result = run_job(job, SIGNALS)
    if result.exit_code:
        return result.exit_code
    found = compare_runs(asked.run_dir, result.run_dir, completed=old.completed)
    changed = old.changes(runs.read_json(result.run_dir / runs.RECORD))
    write_report(result.run_dir, found, changed)
    with whatever_the_screen(result.run_dir / REPORT):
        show(found, changed, old, result.run_dir)
    return 0 if found.same else DIFFERENT


@contextmanager
def whatever_the_screen(file: Path | None) -> Iterator[None]:
    """A full disk behind it, or a pipe that nobody reads, changes neither the training nor the
    verdict, which `file` holds as well."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        where = f"; the result is in {shown_path(file)}" if file else ""
        tell(f"cannot print: {error.strerror}{where}")


class Before:
    """What a run's directory says of how it was made."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir
        self.config = runs.read_config(run_dir)
        self.record = runs.read_json(run_dir / runs.RECORD)
        self.resumed: list[dict[str, Any]] = self.record.get("resumed", [])
        records = [self.record, *self.resumed]
        files = [record["source_files"] for record in records if "source_files" in record]
        self.newest = {"source_files": files[-1], **records[-1]} if files else records[-1]
        self.summary = runs.read_json(run_dir / runs.SUMMARY)
        # Without a summary nobody knows, and the weights are asked for
        self.completed = not self.summary or self.summary.get("status") == "completed"

    def changes(self, new: dict[str, Any]) -> list[str]:
        """Since each part of the run was made; the newest part first."""
        lines = changes_since(self.newest, new)
        earlier = [self.record, *self.resumed][:-1]
        before = dict.fromkeys(line for each in earlier for line in changes_since(each, new))
        return lines + [f"{line} (before it was resumed)" for line in before if line not in lines]

    def notes(self) -> list[str]:
        """Why it may differ although nothing is wrong."""
        found = []
        if not self.completed:
            found.append("the run has not come to its end: what it has is compared")
        records = [self.record, *self.resumed]
        digests = {str(r["settings_digest"]) for r in records if "settings_digest" in r}
        if digests - {settings_digest(self.config)}:
            found.append(
                "its settings were changed on its way: what the last ones give cannot be the same"
            )
        trainer = self.config.get("trainer")
        trainer = trainer if isinstance(trainer, dict) else {}
        if trainer.get("max_time") is not None:
            found.append("trainer.max_time ends it by the clock: another speed, another end")
        on_gpu = str(self.newest.get("device", "")).startswith("cuda")
        if on_gpu and not trainer.get("deterministic"):
            found.append(
                "on CUDA sums are added in any order: only with trainer.deterministic=true are "
                "two runs the same to the last bit"
            )
        return found


def job_of(asked: Asked, old: Before) -> tuple[Job, list[str]]:
    """The run again, with what `auto` stood for then, and what to say of it; nothing of its
    recorded command is used."""
    cfg, choices = stored_config(asked.run_dir), stored_choices(asked.run_dir)
    cfg.resume = "none"
    device = (kind_of(old.newest.get("device")) or "").partition(" ")[0]
    if device in ("cpu", "cuda"):
        cfg.trainer.device = device
    if "threads" in old.record:
        cfg.trainer.threads = old.record["threads"]
    if cfg.trainer.precision == "auto" and isinstance(old.record.get("precision"), str):
        cfg.trainer.precision = old.record["precision"]
    apply_overrides(cfg, asked.overrides, choices)
    config = checked(cfg, allowed=asked.allowed)
    given = asked.own.get("hydra.run.dir")
    if given is not None and not str(given).strip():
        raise UserError("hydra.run.dir is empty; it must be the path of a folder")
    run_dir = Path(runs.OUTPUTS) / config["name"] / name_of_rerun(asked.run_dir, datetime.now())
    job = Job(
        run_dir=run_dir if given is None else Path(str(given)),
        config=config,
        choices=choices,
        hydra_files={},
        named_by_us=given is None,
        allowed=asked.allowed,
    )
    return job, not_taken_over(asked.run_dir, cfg)


def name_of_rerun(run_dir: Path, now: datetime) -> str:
    """`<date>_<time>_rerun_of_<the run's own name>`, so that a list of runs says what belongs
    together; of a rerun's name what it was made of is left out."""
    old = Path(os.path.abspath(run_dir)).name.partition("_rerun")[0]
    old = "".join(c for c in old if c.isalnum() or c in "-_=.,+")[:MAX_NAME]
    return f"{now:%Y-%m-%d_%H-%M-%S}_rerun_of_{old}" if old else f"{now:%Y-%m-%d_%H-%M-%S}_rerun"


# ---------------------------------------------------------------------- what came out


def show(found: Sameness, changed: list[str], old: Before, new: Path) -> None:
    print()
    width = max([6, *map(len, found.metrics)])
    print(f"{'metric':<{width}}  {'rows':>6}  {'same':>6}  largest difference")
    for name, metric in sorted(found.metrics.items()):
        line = (
            f"{printable(name):<{width}}  {metric.rows:>6,}  {metric.rows - metric.different:>6,}"
        )
        if metric.different:
            line += f"  {metric.largest:.1e}, first at step {metric.first_step:,}"
        print(line)
    if found.lone:
        print(f"{found.lone:,} rows or numbers are in one of the runs alone")
    print(f"weights: {weights_in_words(found, old)}")
    print("changed since:" if changed else "nothing that is recorded has changed since")
    for line in changed[:MAX_LINES]:
        print(f"  {line}")
    verdict = "the same" if found.same else "different" if found.differs else UNKNOWN
    print(f"{verdict}: {shown_path(old.path)} and {shown_path(new)}")


def weights_in_words(found: Sameness, old: Before) -> str:
    if found.weights is None:
        why = "one of the runs has none" if old.completed else "the run had not ended"
        return f"not compared: {why}"
    if found.weights == 0:
        return "the same"
    if math.isinf(found.weights):
        return "not comparable: of another shape, or not finite"
    if found.weights == math.ulp(0.0):
        return "different, in the sign of a zero or the bits of a NaN"
    return f"different, by up to {found.weights:.1e}"


def write_report(run_dir: Path, found: Sameness, changed: list[str]) -> None:
    metrics = {name: asdict(metric) for name, metric in sorted(found.metrics.items())}
    report = {"same": found.same, "weights": found.weights, "lone_rows": found.lone}
    runs.write_json(run_dir / REPORT, report | {"changed": changed, "metrics": metrics})
