"""The local launcher: jobs of a sweep in processes of their own, so many at once, kept warm."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dltrain.commands.job import GPU_DEVICES
from dltrain.commands.sweep_child import ENTRY
from dltrain.commands.sweep_job import Outcome
from dltrain.commands.sweep_launch import SweepTask
from dltrain.errors import DltrainError
from dltrain.sweeps import ledger as states
from dltrain.sweeps.ledger import JobRecord
from dltrain.sweeps.live import Screen, choose_screen
from dltrain.sweeps.pool import Event, Pool
from dltrain.sweeps.slots import Slots, choose_slots, device_of, gpu_names, too_many_threads
from dltrain.sweeps.starters import describe_code, make_starter

# (job, event) -> the reason to stop the job, or None; called after each evaluation of each
Judge = Callable[[JobRecord, dict[str, Any]], str | None]
# What every run imports, beside what its config names: a job that starts warm imports nothing more
MODULES = (
    "torch", "dltrain.commands.sweep_child", "dltrain.engine.trainer", "dltrain.engine.device",
    "dltrain.engine.guard", "dltrain.engine.state", "dltrain.engine.update",
    "dltrain.optimizers.eager", "dltrain.optimizers.fused", "dltrain.optimizers.groups",
    "dltrain.schedulers.warmup", "dltrain.data.fingerprint", "dltrain.data.resident",
    "dltrain.data.pictures", "dltrain.data.workers", "dltrain.interpret.mistakes",
    "dltrain.interpret.pictures", "dltrain.interpret.pr_curves", "dltrain.interpret.tally",
    "omegaconf._impl", "numpy.random", "safetensors.torch", "torch.nested._internal.nested_tensor",
)  # fmt: skip
# and what those need once they are used
NEEDED = {
    "dltrain.loggers.tensorboard": (
        "dltrain.loggers.images", "PIL.Image", "PIL.ImageDraw", "PIL.ImageFont",
        "tensorboard.plugins.pr_curve.plugin_data_pb2",
    ),
}  # fmt: skip
TRUSTED = ("dltrain.", "torch.")  # whose modules start nothing when they are imported
PROBE = -1  # the key of a process that is no job


def run_jobs(
    task: SweepTask,
    jobs: Sequence[JobRecord],
    *,
    judge: Judge | None = None,
    stop_at: str | None = None,
) -> dict[int, Outcome]:
    """Runs the jobs, as many at once as `sweep.jobs` says; what became of those that ended.

    judge: called here, in the order in which a job evaluates; a job waits for what it says.
    stop_at: a duration, after which each job stops for now.
    """
    pool = warm_pool(task)
    pool.load(sorted({module for job in jobs for module in modules_of(job)}))
    everything = list(task.ledger.jobs.values())
    total = max(task.num_jobs, len(everything))  # of a search, more are to come
    slots = choose_slots(task.settings["jobs"], everything, find_gpus(pool, jobs), total)
    num_done = sum(each.state in (states.DONE, states.PRUNED) for each in task.ledger.states())
    with choose_screen(total, num_done, slots.count) as screen:
        warning = too_many_threads(slots, jobs)
        if warning:
            screen.say(warning)
        return LocalRun(task, pool, slots, screen, judge=judge, stop_at=stop_at).run(jobs)


def warm_up(task: Any) -> None:
    """Begins to import what jobs need, in another process, where there will be any."""
    if isinstance(task, SweepTask) and not task.dry_run:
        warm_pool(task)


def execute(task: SweepTask, left: list[JobRecord]) -> None:
    """What the launcher has run."""
    run_jobs(task, left, judge=task.judge, stop_at=task.stop_at)


def warm_pool(task: SweepTask) -> Pool:
    """One for all that a sweep runs, however many times it asks: it is closed with the task."""
    if task.pool is None:
        task.pool = task.closing.enter_context(Pool(make_starter(ENTRY, MODULES)))
    pool: Pool = task.pool
    return pool


def modules_of(job: JobRecord) -> list[str]:
    """Where the classes that a config names are."""
    found: list[str] = []
    nodes: list[Any] = [job.config]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            target = node.get("_target_")
            if isinstance(target, str) and target.startswith(TRUSTED):
                module = target.rpartition(".")[0]
                found += [module, *NEEDED.get(module, ())]
            nodes += node.values()
    return sorted(set(found))


def find_gpus(pool: Pool, jobs: Sequence[JobRecord]) -> list[str]:
    """Counted in a process that ends with it: whoever asks CUDA has started it."""
    there_are = any(next(Path("/dev").glob(pattern), None) for pattern in GPU_DEVICES)
    if not there_are or all(device_of(job) == "cpu" for job in jobs):
        return []
    pool.start(PROBE, count_gpus=True)
    count = 0
    while True:
        for event in pool.wait(None):
            count = (event.message or {}).get("gpus", count)
            if event.ended:
                return gpu_names(count)


class LocalRun:
    """Jobs under way: which wait, which runs in which slot, and whether more are begun."""

    def __init__(
        self,
        task: SweepTask,
        pool: Pool,
        slots: Slots,
        screen: Screen,
        *,
        judge: Judge | None,
        stop_at: str | None,
    ) -> None:
        self.task, self.pool, self.slots, self.screen = task, pool, slots, screen
        self.judge, self.stop_at = judge, stop_at
        self.waiting: deque[JobRecord] = deque()
        self.free = list(range(slots.count))
        self.running: dict[int, tuple[JobRecord, int]] = {}  # by number, with the slot
        self.outcomes: dict[int, Outcome] = {}
        self.stopped: set[int] = set()  # by the judge
        self.asked: int | None = None  # to stop, by this signal
        self.has_obeyed = False

    def run(self, jobs: Sequence[JobRecord]) -> dict[int, Outcome]:
        self.waiting.extend(jobs)
        self.task.signals.call(self.on_signal)
        try:
            while self.running or self.waiting:
                self.obey()
                while self.waiting and self.free:
                    self.begin(self.waiting.popleft(), self.free.pop(0))
                for event in self.pool.wait(self.screen.pause):
                    self.take(event)
                self.screen.num_waiting = len(self.waiting)
                self.screen.refresh()
        except DltrainError as error:  # there is nobody to start jobs any more
            again = f"`dltrain resume {self.task.folder}` goes on from the newest checkpoints"
            raise DltrainError(f"{error}\n{again}") from error
        finally:
            self.task.signals.call(lambda number: None)  # all have ended: nothing is to be saved
        return self.outcomes

    def on_signal(self, number: int) -> None:
        """Safe wherever the program is just now; a second Ctrl-C ends it, and all that runs."""
        self.asked = number
        self.pool.wake()

    def obey(self) -> None:
        """Once asked to stop: what runs is told to save and end, and nothing else begins."""
        if self.asked is None or self.has_obeyed:
            return
        self.has_obeyed = True
        self.waiting.clear()
        signals, count = self.task.signals, len(self.running)
        if count:
            why = "sweep.on_error=stop" if signals.received is None else signals.name
            again = "; once more ends them at once" if signals.received == signal.SIGINT else ""
            self.screen.say(f"{why}: {count} running job{'s' * (count > 1)} save and stop{again}")
        self.pool.signal(self.asked)

    def begin(self, job: JobRecord, slot: int) -> None:
        task = self.task
        task.begin(job)
        self.running[job.number] = (job, slot)
        self.screen.started(job, task.ledger.state(job.number).result)
        self.pool.start(
            job.number,
            folder=str(task.folder),
            job=asdict(job),
            allowed=task.allowed,
            argv=task.argv,
            share=self.slots.share,
            gpu=self.slots.gpu(slot, job),
            judged=self.judge is not None,
            stop_at=self.stop_at,
        )

    def take(self, event: Event) -> None:
        job, slot = self.running[event.key]
        message = event.message
        if event.ended:
            self.end(job, slot, event)
        elif message and "outcome" in message:
            self.outcomes[job.number] = Outcome(**message["outcome"])
        elif message:
            self.screen.heard(job, message["event"])
            if message["waits"]:
                assert self.judge is not None
                reason = self.judge(job, message["event"])
                self.stopped |= {job.number} if reason else set()
                self.pool.answer(job.number, stop=reason)

    def end(self, job: JobRecord, slot: int, event: Event) -> None:
        del self.running[job.number]
        self.free = sorted([*self.free, slot])
        outcome = self.outcomes.setdefault(job.number, unexplained(event))
        pruned = outcome.stopped and job.number in self.stopped
        self.screen.ended(job, describe(outcome, pruned=pruned), outcome.result)
        with self.screen.aside():
            self.task.end(job, outcome, pruned=pruned)
        decision = self.task.may_go_on(job, outcome)
        if decision == "again":
            self.waiting.appendleft(job)
            del self.outcomes[job.number]
        elif decision == "stop" and self.asked is None:
            self.asked = signal.SIGTERM


def describe(outcome: Outcome, *, pruned: bool) -> str:
    """In a word, for the screen."""
    if outcome.exit_code in (130, 143):
        return "interrupted"
    if outcome.exit_code:
        return "failed"
    return ("pruned" if pruned else "paused") if outcome.stopped else "done"


def unexplained(event: Event) -> Outcome:
    """Of a job that has not said how it ended: killed, or before there was anything to say."""
    assert event.ended
    code = event.ended.code
    if code in (130, 143):  # a signal, before it had begun
        return Outcome(code)
    lines = [event.ended.reason or f"its process {describe_code(code)}"]
    if code == -signal.SIGKILL:
        lines.append("if memory ran out, fewer jobs at once need less: sweep.jobs")
    lines += event.output.strip().splitlines()[-3:]
    return Outcome(1, reason="\n".join(lines))
