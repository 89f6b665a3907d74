"""A sweep under way: its jobs are composed, checked and recorded, and what becomes of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict, read_write

from dltrain import runs
from dltrain.claim import Claim
from dltrain.commands.checked import checked
from dltrain.commands.hydra_app import choices_of, hydra_files, resolve_dir
from dltrain.commands.signals import Signals
from dltrain.commands.sweep_job import Judge, Outcome, keep_at_home, refuse_another_place, trusted
from dltrain.config import compose as composing
from dltrain.config.composer import Composer
from dltrain.config.messages import shorten
from dltrain.config.sweep import is_of_sweep
from dltrain.config.sweep_messages import lists_to_try
from dltrain.errors import UserError
from dltrain.sweeps import ledger as states
from dltrain.sweeps.cluster import TYPED_ONLY
from dltrain.sweeps.ledger import JobRecord, Ledger
from dltrain.sweeps.ledger_lines import directory_problem
from dltrain.sweeps.names import job_directory


@dataclass
class SweepTask:
    """A sweep under way: what Hydra hands to the sweeper and the launcher as `task_function`.

    fixed: keys that the command line gives one value; config: which config is composed, as
    `compose` takes it; settings: the `sweep` node; asked: what `sweep.json` holds or is to hold.
    """

    folder: Path
    claim: Claim
    ledger: Ledger
    allowed: list[str]
    signals: Signals
    fixed: set[str]
    config: dict[str, Any]
    settings: dict[str, Any]
    asked: dict[str, Any]
    argv: list[str]  # as typed, for run.json: Hydra has been given another
    dry_run: bool = False
    goes_on: bool = False  # with the jobs that were recorded, whatever would be composed today
    # What of `sweep.json` is another by what was typed now
    changes: dict[str, Any] = field(default_factory=dict)
    retried: dict[int, int] = field(default_factory=dict)
    # What a sweeper that decides on the way tells the launcher: who is to run now, whatever else is
    # left; who says after an evaluation whether a job is to stop; and where each stops for now
    only: set[int] | None = None
    judge: Judge | None = None
    stop_at: str | None = None
    foreign: list[str] = field(default_factory=list)  # failed jobs of launchers that are not ours
    subdir_typed: bool = False
    names: dict[str, int] = field(default_factory=dict)  # of directories, and whose they are
    # What a sweeper may tell before it launches: how many jobs there will be, and what varies
    num_jobs: int = 0
    planned: dict[int, dict[str, str]] = field(default_factory=dict)
    pool: Any = None  # processes of a launcher that keeps them warm from one batch to the next
    # What a sweeper has against jobs, before they are recorded: raises UserError
    examine: Callable[[Sequence[JobRecord]], None] | None = None
    closing: ExitStack = field(default_factory=ExitStack)  # what is to end with the sweep

    def __call__(self, cfg: DictConfig) -> float | None:
        """For launchers that are not ours: a job composed by Hydra, unrecorded."""
        from dltrain.commands.sweep_foreign import run_foreign

        return run_foreign(self, cfg)

    # ------------------------------------------------------------------ before the first job

    def compose(self, numbers: Sequence[int], overrides: Sequence[Sequence[str]]) -> None:
        """Composes, checks and records those that are new. Raises UserError: then none is."""
        wanted = {
            number: [text for text in texts if not is_of_sweep(text)]
            for number, texts in zip(numbers, overrides, strict=True)
        }
        for number in wanted.keys() & self.ledger.jobs.keys():
            self.refuse_another(self.ledger.jobs[number], wanted[number])
        if not self.goes_on and self.planned and len(self.ledger.jobs) > len(self.planned):
            raise UserError(
                f"{self.folder} holds another sweep: it has {len(self.ledger.jobs)} jobs, and this "
                f"command makes {len(self.planned)}\n"
                f"`dltrain resume {self.folder}` goes on with it; or choose another hydra.sweep.dir"
            )
        todo = sorted(wanted.keys() - self.ledger.jobs.keys())
        if not todo:
            return
        self.num_jobs = max(self.num_jobs, todo[-1] + 1)
        with Composer(**self.config) as composer:
            new = [self.job_named(composer, number, wanted[number]) for number in todo]
        self.inspect(new)
        if self.dry_run:
            self.ledger.jobs |= {job.number: job for job in new}
        else:
            self.record(new)

    def inspect(self, jobs: Sequence[JobRecord]) -> None:
        self.refuse_equal(jobs)
        if self.examine is not None:
            self.examine(jobs)

    def record(self, jobs: Sequence[JobRecord], events: Sequence[dict[str, Any]] = ()) -> None:
        self.hold()
        if self.ledger.asked:
            self.ledger.add(jobs, events)
        else:
            self.ledger.begin(self.asked, jobs, events)
        self.signals.go_on = self.go_on_by

    def hold(self) -> None:
        """The sweep's directory, made if need be, for this process alone."""
        if self.claim.is_new:
            self.claim.take()

    def write_down(self) -> None:
        """What was typed now, so that it need not be typed the next time."""
        if self.changes:
            self.ledger.ask(**self.changes)
            self.changes = {}

    def job_named(self, composer: Composer, number: int, overrides: list[str]) -> JobRecord:
        """`job_of`; of several jobs a mistake is told with the one that has it."""
        try:
            return self.job_of(composer, number, overrides)
        except UserError as error:
            swept = self.swept(number, overrides)
            if self.num_jobs < 2 or not swept:
                raise
            first, *rest = str(error).splitlines()
            for key in swept:
                if f"there is no config key `{key}`" in first:
                    group = key.partition(".")[0]
                    hint = f"'sweep.when={{{key}:{{{group}:NAME}}}}'"
                    rest = [f"for a key that only some jobs have: {hint}"]
            rest += filter(None, [lists_to_try(first, self.planned.values())])
            named = shorten(" ".join(f"{key}={value}" for key, value in swept.items()), 200)
            raise UserError("\n".join([f"{first} (job {number}: {named})", *rest])) from error

    def job_of(self, composer: Composer, number: int, overrides: list[str]) -> JobRecord:
        cfg = composer([*self.asked["hydra"], *overrides], number)
        swept = self.swept(number, overrides)
        directory = job_directory(number, swept, self.num_jobs)
        if self.subdir_typed:
            directory = str(resolve_dir(cfg, "hydra.sweep.subdir"))
        wrong = directory_problem(directory)
        if self.names.setdefault(directory, number) != number or wrong:
            rule = wrong or "it must be another for each job"
            raise UserError(
                f"hydra.sweep.subdir: `{directory[:300]}` is to be the folder of job {number}; "
                f"{rule}, such as ${{hydra.job.num}}"
            )
        with read_write(cfg.hydra.runtime), open_dict(cfg.hydra.runtime):
            cfg.hydra.runtime.output_dir = str((self.folder / directory).absolute())
        config = checked(composing.job_config(cfg), allowed=self.allowed)
        if self.goes_on:  # what it is made of stands in a file, which may come from anywhere
            keep_at_home(config, number)
        return JobRecord(
            number=number,
            overrides=overrides,
            swept=swept,
            directory=directory,
            config=config,
            choices=choices_of(cfg),
            hydra_files=hydra_files(cfg),
        )

    def swept(self, number: int, overrides: list[str]) -> dict[str, str]:
        """What varies from job to job, as text."""
        if number in self.planned:
            return self.planned[number]
        pairs = [text.lstrip("+").partition("=")[::2] for text in overrides]
        return {key: value for key, value in pairs if key not in self.fixed}

    def refuse_equal(self, jobs: Sequence[JobRecord]) -> None:
        """Of what was planned as a whole, two equal jobs are a mistake: a sweeper may try again."""
        seen: dict[str, JobRecord] = {}
        for job in jobs if self.planned else ():
            content = json.dumps(job.config, sort_keys=True, default=str)
            other = seen.setdefault(content, job)
            if other is not job:
                names = [" ".join(f"{k}={v}" for k, v in j.swept.items()) for j in (other, job)]
                raise UserError(
                    f"the jobs {other.number} and {job.number} are equal: `{names[0]}` and "
                    f"`{names[1]}` make the same config"
                )

    def refuse_another(self, known: JobRecord, overrides: list[str]) -> None:
        if not self.goes_on and known.overrides != overrides:
            raise UserError(
                f"{self.folder} holds another sweep: its job {known.number} has "
                f"`{' '.join(known.overrides)}`, and not `{' '.join(overrides)}`\n"
                f"`dltrain resume {self.folder}` goes on with it; or choose another hydra.sweep.dir"
            )

    def __post_init__(self) -> None:
        self.read = set(self.ledger.jobs)  # those that come from a file
        self.names |= {job.directory: number for number, job in self.ledger.jobs.items()}

    def trusted(self, job: JobRecord) -> JobRecord:
        if job.number not in self.read:
            refuse_another_place(self.folder / job.directory)
            return job
        return trusted(self.folder, job, self.allowed, is_typed=not self.goes_on)

    # ------------------------------------------------------------------ around each job

    def begin(self, job: JobRecord) -> None:
        self.ledger.note(job.number, states.RUNNING)

    def end(self, job: JobRecord, outcome: Outcome, *, pruned: bool = False) -> None:
        """Records how a job ended; a failure is told at once."""
        if outcome.exit_code in (130, 143):
            self.ledger.note(job.number, states.PENDING)
        elif outcome.exit_code:
            self.ledger.note(
                job.number, states.FAILED, reason=outcome.reason[:4000], exit_code=outcome.exit_code
            )
            self.tell_failure(job, outcome)
        elif outcome.stopped:
            state = states.PRUNED if pruned else states.PENDING
            self.ledger.note(job.number, state, reason=outcome.reason[:4000])
        else:
            self.ledger.note(job.number, states.DONE, result=outcome.result)

    def tell_failure(self, job: JobRecord, outcome: Outcome) -> None:
        from dltrain.cli import print_error

        log = self.folder / job.directory / runs.LOG
        where = f"\nits log: {log}" if log.exists() and str(log) not in outcome.reason else ""
        print_error(f"{job.directory}: {outcome.reason}{where}")

    @property
    def num_tries(self) -> int:
        """Of a job that fails, the first among them."""
        return 1 + int(str(self.settings["on_error"]).partition(":")[2] or 0)

    def may_go_on(self, job: JobRecord, outcome: Outcome) -> str:
        """What `sweep.on_error` makes of a job that has ended: `next`, `again` or `stop`."""
        if self.signals.received is not None:
            return "stop"
        if outcome.exit_code in (0, 130, 143):
            return "next"
        policy = str(self.settings["on_error"]).partition(":")[0]
        tried = self.retried.get(job.number, 0)
        is_mistake = outcome.exit_code == UserError.exit_code  # the same again the next time
        if policy == "retry" and tried < self.num_tries - 1 and not is_mistake:
            self.retried[job.number] = tried + 1
            return "again"
        return "stop" if policy == "stop" else "next"

    # ------------------------------------------------------------------ the end

    @property
    def go_on_by(self) -> str:
        """The command. What a shell runs, and code of the user's own, is typed again: never taken
        from a file."""
        typed = [text for text in self.argv if text.lstrip("+").startswith(TYPED_ONLY)]
        allowed = [word for name in self.allowed for word in ("--allow-target", name)]
        return shlex.join(["dltrain", "resume", str(self.folder), *typed, *allowed])

    @property
    def exit_code(self) -> int:
        if self.signals.exit_code:
            return self.signals.exit_code
        return int(any(state.state == states.FAILED for state in self.ledger.states()))
