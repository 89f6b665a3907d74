"""The columns of a comparison: what each takes from a run, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dltrain.compare import metrics, settings
from dltrain.compare.find import as_text
from dltrain.compare.metrics import Curves, Metric
from dltrain.compare.run import Run, Value
from dltrain.compare.settings import show
from dltrain.errors import UserError


@dataclass(frozen=True)
class Column:
    """`name` is for machines, `heading` for a screen: its lines stand above one another. Numbers
    of a `measured` one become mean and standard deviation where runs are grouped."""

    name: str
    heading: tuple[str, ...]
    get: Callable[[Run], Value]
    show: Callable[[Value], str] = show
    measured: bool = False
    is_setting: bool = False
    may_go: int = 0  # in a narrow table: 1 is the first to go

    @property
    def title(self) -> str:
        """The heading in one line: `accuracy/val best`."""
        return "/".join(self.heading)


def duration(value: Value) -> str:
    """`12.3s`, `4:05`, `1:02:03`."""
    assert isinstance(value, int | float)
    if value < 60:
        return f"{value:.1f}s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def whole(value: Value) -> str:
    return f"{value:,.0f}"


def percent(value: Value) -> str:
    return f"{value:.2%}"


def significant(value: Value) -> str:
    return f"{value:.4g}"


def of_number(name: str) -> Callable[[Run], Value]:
    return lambda run: run.numbers.get(name)


RUN = Column("run", ("run",), lambda run: run.name)
STATUS = Column("status", ("status",), lambda run: run.status, may_go=3)
TIME = Column("time", ("time",), of_number("wall_time_sec"), duration, measured=True, may_go=2)
SPEED = Column("images/s", ("images/s",), of_number("samples_per_sec"), whole, True, may_go=1)
OTHERS = {
    column.name: column
    for column in (
        RUN,
        STATUS,
        TIME,
        SPEED,
        Column("step", ("step",), of_number("step"), whole, measured=True),
        Column("epoch", ("epoch",), of_number("epoch"), whole, measured=True),
        Column("parameters", ("parameters",), of_number("num_parameters"), whole, True),
        Column("data_share", ("data_share",), of_number("data_share"), percent, True),
        Column("path", ("path",), lambda run: as_text(str(run.path))),
        Column("monitor", ("monitor",), lambda run: run.best[0] if run.best else None),
    )
}
N = Column("n", ("n",), lambda run: 1)  # of groups alone
# What the records call them, and what people do
ALIASES = {
    "wall_time_sec": "time",
    "samples_per_sec": "images/s",
    "num_parameters": "parameters",
}
# What stands for a metric of whatever the runs monitor
MONITORED = {"best": metrics.monitored, "test": metrics.tested}


class Columns:
    """Finds the columns that are typed, for these runs, and reads the curves that they need."""

    def __init__(self, found: Sequence[Run], at: int | None = None) -> None:
        self.all = [run for run in found if run.is_compared]  # whose names can be typed
        self.at = at
        self.narrow(self.all)

    def narrow(self, found: Sequence[Run]) -> None:
        """Of these alone is said what differs, and what they have been measured by."""
        self.found = [run for run in found if run.is_compared]
        self.varied = settings.differing(self.found)
        self.metrics: dict[str, Metric] = {}
        self.curves = Curves((), ())

    def load(self) -> None:
        """After every column is found, before a value is taken; the files are read once."""
        self.curves = Curves(self.metrics.values(), self.found)
        metrics.check(self.metrics.values(), self.found, self.curves)

    def setting(self, key: str, heading: str) -> Column:
        return Column(key, (heading,), lambda run: run.settings.get(key), is_setting=True)

    def metric(self, metric: Metric) -> Column:
        self.metrics[metric.title] = metric
        kind = {"at": f"@{metric.step}", "last": "" if metric.split == "test" else "last"}
        under = f"{metric.split} {kind.get(metric.kind, metric.kind)}".strip()
        return Column(
            metric.title,
            (metric.name, under),
            lambda run: self.curves.value(metric, run),
            percent if metric.name.startswith("accuracy") else significant,
            measured=True,
        )

    def default(self, chosen: Sequence[Metric], leave_out: Sequence[str] = ()) -> list[Column]:
        keys = [key for key in self.varied if key not in leave_out]
        short = settings.short_names(keys)
        columns = [RUN, *(self.setting(key, short[key]) for key in keys)]
        return [*columns, *map(self.metric, chosen), STATUS, TIME, SPEED]

    def metrics_typed(self, text: str) -> list[Metric]:
        """Of `--metrics accuracy/val,loss/val@500,best`."""
        found: list[Metric] = []
        for word in words(text, "--metrics"):
            if word in MONITORED:
                found += MONITORED[word](self.found)
            elif metric := metrics.parse(word, self.at, self.found):
                found.append(metric)
            else:
                raise UserError(f"--metrics: `{word}` is no metric; write one like accuracy/val")
        return found

    def typed(self, text: str) -> list[Column]:
        """Of `--columns run,lr,accuracy/test`."""
        return [column for word in words(text, "--columns") for column in self.named(word)]

    def one(self, word: str, option: str) -> Column:
        """Raises UserError for `best` where runs monitor several metrics."""
        columns = self.named(word)
        if len(columns) > 1:
            names = ", ".join(column.name for column in columns)
            raise UserError(f"{option}: `{word}` can be {names}; write one of them")
        return columns[0]

    def named(self, word: str) -> list[Column]:
        """Settings by their whole name or its end, metrics, and what every run has."""
        name = ALIASES.get(word, word)
        if name in OTHERS:
            return [OTHERS[name]]
        if word in MONITORED:
            return [self.metric(metric) for metric in MONITORED[word](self.found)] or [RUN]
        key = settings.resolve(word, self.all, self.varied)
        if key is not None:
            return [self.setting(key, word)]
        if word == N.name:
            return [N]
        is_metric = metrics.is_known(word, self.all)
        metric = metrics.parse(word, self.at, self.found or self.all) if is_metric else None
        if metric is None:
            raise settings.unknown(word, self.all, [*OTHERS, *MONITORED, *self.metric_names()])
        return [self.metric(metric)]

    def metric_names(self) -> list[str]:
        return list({key: None for run in self.all for key in run.last})


def words(text: str, option: str) -> list[str]:
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found:
        raise UserError(f"{option} needs names with commas between them")
    return found
