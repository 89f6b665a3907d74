"""A search by optuna: trials are asked for, their evaluations reported, their results told.

Everything is in optuna's journal in the sweep's directory: a file of JSON lines, which optuna's own
tools read too. A trial has the number of its job.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dltrain import plain
from dltrain.errors import UserError
from dltrain.sweeps.objectives import Objective
from dltrain.sweeps.samplers import make_pruner, make_sampler, one_line
from dltrain.sweeps.search_space import Kept, Parameter, grid_size

JOURNAL = "optuna.jsonl"  # in the sweep's directory
# 400,000 evaluations, and behind that 6,000 of each trial
MAX_JOURNAL, MAX_TRIAL = 64 << 20, 1 << 20
NEW_TRIAL = b'{"op_code":4,'  # how optuna begins such a line
NAME = "dltrain"  # of the study: hyperband makes its brackets of it, so it must be the same
PRUNED_AT = "pruned_at"  # of a trial: the evaluation
# What optuna raises of a journal that it has not written, beside errors of reading
FOREIGN = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError)


class NoLock:
    """The sweep's directory is claimed: a lock of optuna's own would only be left by a kill, and
    make the next start wait for half a minute."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class Search:
    """`settings`: the node `sweep.optuna`. `parameters`: each behind those that its conditions ask
    for; `kept` knows them. `recorded`: how many trials are jobs of the sweep; of later ones nothing
    came, and they are drawn again.

    Raises UserError for settings, a space or a journal that cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        parameters: Sequence[Parameter],
        objectives: Sequence[Objective],
        *,
        kept: Kept,
        recorded: int = 0,
    ) -> None:
        self.settings, self.objectives = settings, objectives
        self.parameters, self.kept = parameters, kept
        self.path = folder / JOURNAL
        if settings["pruner"] != "none" and len(objectives) > 1:
            raise UserError(
                f"sweep.optuna.pruner is {settings['pruner']}, which compares runs by one number, "
                "and sweep.optuna.objectives has several; take sweep.optuna.pruner=none"
            )
        self.total = settings["trials"]
        if settings["sampler"] == "grid":
            self.total = min(self.total, grid_size(parameters))
        with quiet():
            self.sampler(0)  # a mistake in its arguments is found before there is a file
            pruner = make_pruner(settings["pruner"], settings["pruner_args"])
            self.study = self.open(pruner, recorded)

    def sampler(self, number: int) -> Any:
        return make_sampler(
            self.settings["sampler"],
            self.settings["sampler_args"],
            seed=self.settings["seed"],
            number=number,
            parameters=self.parameters,
        )

    def open(self, pruner: Any, recorded: int) -> Any:
        import optuna

        directions = [f"{each.mode}imize" for each in self.objectives]
        try:
            rewind(self.path, recorded)
            backend = optuna.storages.journal.JournalFileBackend(str(self.path), lock_obj=NoLock())
            self.storage = optuna.storages.JournalStorage(backend)
            study = optuna.create_study(
                study_name=NAME,
                storage=self.storage,
                sampler=self.sampler(0),
                pruner=pruner,
                directions=directions,
                load_if_exists=True,
            )
            one = len(self.storage.get_all_studies()) == 1
            fits = one and [each.name.lower() for each in study.directions] == directions
        except (*FOREIGN, *plain.PLAIN_ERRORS) as error:
            raise UserError(f"{self.path} cannot be read: {one_line(error)}") from None
        if not fits:
            raise UserError(f"{self.path} is of another search: it has other objectives")
        if len(study.get_trials(deepcopy=False)) != recorded:
            raise UserError(
                f"{self.path} does not know all of the {recorded} jobs of this sweep; put the file "
                "back that belongs to it"
            )
        study.stop = lambda: None  # a sampler that has tried everything; outside of `optimize`
        return study

    # ------------------------------------------------------------------ trials

    def trials(self) -> list[Any]:
        found: list[Any] = self.study.get_trials(deepcopy=False)
        return found

    def running(self) -> list[int]:
        """Asked for, and not yet told."""
        return [trial.number for trial in self.trials() if not trial.state.is_finished()]

    def ask(self, count: int) -> list[dict[str, str]]:
        """The next trials, key -> value as text; fewer, or none, where the total is reached."""
        first = len(self.trials())
        return [self.draw(number) for number in range(first, min(first + count, self.total))]

    def draw(self, number: int) -> dict[str, str]:
        with quiet():
            self.study.sampler = self.sampler(number)
            try:
                return self.suggest(self.study.ask())
            except FOREIGN as error:
                raise UserError(
                    f"the sampler {self.settings['sampler']} cannot draw trial {number}: "
                    f"{one_line(error)}\nanother one is chosen with sweep.optuna.sampler=random"
                ) from error
            except ImportError as error:
                raise UserError(f"the sampler {self.settings['sampler']} needs {error}") from None

    def suggest(self, trial: Any) -> dict[str, str]:
        chosen: dict[str, str] = {}
        for each in self.parameters:
            options = each.rows or ({each.name: ""},)
            if not any(self.kept(row, chosen) for row in options):
                continue  # its condition does not hold
            if each.rows:
                value = trial.suggest_categorical(each.name, each.labels)
            elif each.whole:
                low, high, step = int(each.low), int(each.high), int(each.step or 1)
                value = trial.suggest_int(each.name, low, high, step=step, log=each.log)
            else:
                value = trial.suggest_float(
                    each.name, each.low, each.high, step=each.step, log=each.log
                )
            chosen |= self.kept(each.row(value), chosen)
        return chosen

    def report(self, number: int, index: int, value: float | None) -> bool:
        """Evaluation `index` (from 1) of a trial; whether the pruner stops it there, or has."""
        trial = self.trials()[number]
        if trial.state.is_finished():
            return False
        if index in trial.intermediate_values:
            return bool(trial.user_attrs.get(PRUNED_AT) == index)
        with quiet():
            shown = math.nan if value is None else value
            self.storage.set_trial_intermediate_value(number, index, shown)
            stops = self.study.pruner.prune(self.study, self.storage.get_trial(number))
            if stops:  # a run that is killed before it has stopped is stopped there again
                self.storage.set_trial_user_attr(number, PRUNED_AT, index)
        return bool(stops)

    def is_pruned(self, number: int) -> bool:
        return PRUNED_AT in self.trials()[number].user_attrs

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """What came out of a trial, or that it failed; told once, what comes later is not heard."""
        from optuna.trial import TrialState

        if values is None:
            self._end(number, state=TrialState.FAIL)
        else:
            self._end(number, values=list(values))

    def tell_pruned(self, number: int) -> None:
        """Its value is that of the last evaluation."""
        from optuna.trial import TrialState

        self._end(number, state=TrialState.PRUNED)

    def _end(self, number: int, **told: Any) -> None:
        if not self.trials()[number].state.is_finished():
            with quiet():
                self.study.tell(number, **told)


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna says of its own accord what is experimental, and every trial."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def rewind(path: Path, recorded: int) -> None:
    """Cuts off what a kill left of a line, which whatever is appended would become part of, and
    the trials that were drawn, in whole or in part, and of which no job was made: they are drawn
    again, to the same values. Raises PlainError, and OSError."""
    if not os.path.lexists(path):
        return
    end, created, most = 0, 0, MAX_JOURNAL + recorded * MAX_TRIAL
    with plain.open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise plain.PlainError(f"it has more than {most:,} bytes")
        for line in file:
            created += NEW_TRIAL in line
            if created > recorded or not line.endswith(b"\n"):
                break
            end += len(line)
    if end < size:
        os.truncate(path, end)


def import_optuna() -> None:
    """Raises UserError where it is missing or too old."""
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            f"hydra/sweeper=optuna needs optuna, which does not import ({error})\n"
            "pip install 'dltrain[sweep]'"
        ) from None
    version = optuna.__version__
    if int(version.partition(".")[0]) < 4:
        raise UserError(
            f"hydra/sweeper=optuna needs optuna 4 or newer, and this is {version}\n"
            "pip install --upgrade 'dltrain[sweep]'"
        )
