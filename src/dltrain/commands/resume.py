"""`dltrain resume DIR`: continues a run in its own directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dltrain import runs
from dltrain.commands.checked import checked
from dltrain.commands.job import run_job
from dltrain.commands.run import Job
from dltrain.commands.signals import SIGNALS
from dltrain.commands.sweep import resume_sweep
from dltrain.commands.train import take_allowed_targets, take_dry_run
from dltrain.errors import UserError
from dltrain.stored import apply_overrides, not_taken_over, stored_choices, stored_config
from dltrain.sweeps.ledger import PENDING, JobState, is_sweep, read_ledger

HELP = """\
usage: dltrain resume RUN|SWEEP [key=value ...] [--dry-run] [--allow-target PACKAGE]

Continues the run in the directory RUN (or `latest`) from its newest good checkpoint: the same
directory, the same curve, and bit for bit the same weights as if it had never stopped.

  dltrain resume latest                              # after Ctrl-C, a crash, a power cut
  dltrain resume latest trainer.max_epochs=40        # a finished run, longer
  dltrain resume latest optimizer=sgd optimizer.lr=0.1

  dltrain resume outputs/digits_mlp/2026-01-01_12-00-00_sweep     # what is left of a sweep

`latest` is the whole sweep where the newest run is one of its jobs, and some are left.

Of a sweep, jobs that are done stay as they are; those that were cut off go on from their own
checkpoints, those that failed or never began are run, all with the configs that were recorded when
the sweep began. With --dry-run they are listed, and nothing is run.

What is typed replaces what the run's config.yaml says; a group choice replaces that group alone.
"""


def main(argv: list[str]) -> int:
    """Returns the exit code; raises DltrainError for what the user can mend."""
    if not argv or "-h" in argv or "--help" in argv:
        print(HELP, end="")
        return 0
    allowed, rest = take_allowed_targets(argv)
    dry_run, rest = take_dry_run(rest)
    if not rest or any(arg.startswith("-") for arg in rest):
        flag = next((arg for arg in rest if arg.startswith("-")), None)
        what = f"there is no flag {flag}" if flag else "resume needs the directory of a run"
        raise UserError(f"{what}; write `dltrain resume RUN [key=value ...]`")
    text, *overrides = rest
    if "=" in text and not os.path.isdir(text):
        raise UserError(f"resume needs a run before `{text}`: `dltrain resume RUN {text}`")
    if is_sweep(Path(text)):
        return resume_sweep(Path(text), overrides, allowed, dry_run=dry_run)
    if dry_run:
        raise UserError(f"--dry-run lists the jobs of a sweep, and {text} is none")
    run_dir = runs.find_run(text)
    sweep = run_dir.parent if is_sweep(run_dir.parent) else None
    if sweep is not None:
        states = read_ledger(sweep).states()
        num_left = sum(state.state == PENDING for state in states)
        if text == "latest" and num_left and not overrides:
            print(f"latest     is of a sweep with {num_left} jobs left: {sweep}")
            return resume_sweep(sweep, [], allowed)
        refuse_what_varies(sweep, run_dir, states, overrides)
    choices = stored_choices(run_dir)
    cfg = stored_config(run_dir)
    apply_overrides(cfg, overrides, choices)
    for note in not_taken_over(run_dir, cfg):
        print(f"note: {note}")
    job = Job(
        run_dir=run_dir,
        config=checked(cfg, allowed=allowed),
        choices=choices,
        hydra_files={},
        named_by_us=False,
        allowed=allowed,
        resume=True,
    )
    return run_job(job, SIGNALS).exit_code


def refuse_what_varies(
    sweep: Path, run_dir: Path, states: Sequence[JobState], overrides: Sequence[str]
) -> None:
    """The sweep's table and the run's name would go on to say what it was."""
    for job in (state.job for state in states if state.job.directory == run_dir.name):
        for text in overrides:
            key, _, value = text.lstrip("+~").partition("=")
            if key in job.swept and value != job.swept[key]:
                raise UserError(
                    f"`{text}`: {sweep} compares its jobs by {key}, and this one is the job with "
                    f"{key}={job.swept[key]}\n"
                    "begin a run of its own with `dltrain train`; init_from=RUN takes its weights"
                )
