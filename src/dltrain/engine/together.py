"""Several trainers in step: one pass over all of them, and all else each its own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any

import numpy as np
import torch

from dltrain.engine.stack import (
    LOOP,
    Stack,
    detach,
    generator_state,
    is_alike,
    set_generator_state,
)
from dltrain.engine.stack_choice import Choice, choose
from dltrain.engine.trainer import Trainer


class Feed:
    """Batches, for all who train on the same ones; the next can be looked at."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches = batches

    def __next__(self) -> Any:
        return next(self.batches)

    def peek(self) -> Any:
        batch = next(self.batches)
        self.batches = chain([batch], self.batches)
        return batch


class Member:
    """A trainer in step with others, with the random generators as they are for it alone.

    around: the context in which it logs, evaluates, saves and ends.
    """

    def __init__(
        self,
        trainer: Trainer,
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.trainer, self.around = trainer, around
        self.generators = take_generators(trainer.device)
        self.batches = Feed(iter(()))
        self.error: Exception | None = None

    @property
    def is_over(self) -> bool:
        trainer = self.trainer
        ended = trainer.step >= trainer.last_step or bool(trainer.should_stop)
        return self.error is not None or ended

    @property
    def is_due(self) -> bool:
        """As `Trainer.after_step` has it."""
        trainer = self.trainer
        at_end = trainer.step >= trainer.last_step or trainer.clock.is_over()
        return trainer.step >= trainer.next_pause or at_end

    def attempt(self, function: Callable[..., Any], *arguments: Any) -> None:
        """A failure is this member's alone."""
        try:
            function(*arguments)
        except Exception as error:
            self.error = error

    @contextmanager
    def acting(self) -> Iterator[None]:
        """The random generators, and whatever else is around it, are this member's."""
        device = self.trainer.device
        set_generators(self.generators, device)
        with self.around():
            yield
        self.generators = take_generators(device)


class Together:
    """Takes members a step at a time until each is over; how, is found out at the start.

    on_end: called with those that are over, as soon as they are; the others go on afterwards.
    """

    def __init__(
        self,
        members: Sequence[Member],
        on_end: Callable[[list[Member]], None],
        say: Callable[[Choice], None] = lambda _: None,
    ) -> None:
        self.members, self.on_end, self.say = list(members), on_end, say
        self.stack: Stack | None = None
        self.choice = Choice(LOOP, torch.get_num_threads())

    def fit(self) -> None:
        """Trains all; raises nothing of theirs."""
        feeds: dict[Any, Feed] = {}
        for member in self.members:
            with member.acting():
                member.attempt(member.trainer.start)
        self.part()
        for member in self.members:
            trainer = member.trainer
            place = (id(trainer.train_loader), trainer.step - trainer.origin[0], trainer.origin[1])
            member.batches = feeds.setdefault(place, Feed(trainer.batches()))
        if len(self.members) > 1:
            self.begin()
        while self.members:
            try:
                self.train_step()
            except Exception as error:  # of the pass over all of them: no memory, say
                for member in self.members:
                    member.error = member.error or error
            self.follow()
            self.part()

    def begin(self) -> None:
        """Chooses a way by what the next batches are, which stay the next."""
        trainers = [member.trainer for member in self.members]
        self.choice = Choice(LOOP, torch.get_num_threads(), reason="their networks differ")
        if all(is_alike(trainers[0].model, each.model) for each in trainers):
            self.choice = choose(trainers, [member.batches.peek() for member in self.members])
        self.say(self.choice)
        torch.set_num_threads(self.choice.threads)
        self.restack()
        for member in self.members:
            member.trainer.clock.start()

    # ------------------------------------------------------------------ a step

    def train_step(self) -> None:
        batches = self.next_batches()
        if self.stack is None or len({batch.targets.shape for batch in batches}) > 1:
            return self.one_after_another(batches)
        trainers = [member.trainer for member in self.members]
        pieces = zip(
            *(t.micro_batches(batch) for t, batch in zip(trainers, batches, strict=True)),
            strict=True,
        )
        for each in pieces:
            micro_batches, shares = zip(*each, strict=True)
            losses, records = self.stack.losses(micro_batches)
            self.stack.backward(losses, shares[0])
            count = len(micro_batches[0].targets)
            columns = zip(*(record.unbind(0) for record in records), strict=True)
            for trainer, loss, record in zip(
                trainers, losses.detach().unbind(0), columns, strict=True
            ):
                trainer.update.losses.append(loss)
                trainer.sums.add(loss, count, record)
        for member in self.members:
            member.attempt(member.trainer.update, member.trainer.progress)

    def next_batches(self) -> list[Any]:
        """One a member; those of the same loader at the same place share theirs."""
        begin = time.perf_counter()
        read = {feed: next(feed) for feed in {member.batches for member in self.members}}
        waited = time.perf_counter() - begin
        for member in self.members:
            member.trainer.clock.waiting += waited
        return [read[member.batches] for member in self.members]

    def one_after_another(self, batches: Sequence[Any]) -> None:
        """Each its own step, in which it draws what it would draw alone."""
        for member, batch in zip(self.members, batches, strict=True):
            device = member.trainer.device
            set_generator_state(member.generators[device.type], device)
            member.attempt(member.trainer.train_step, batch)
            member.generators[device.type] = generator_state(device)

    def follow(self) -> None:
        """What follows a step; the clocks of all stand still while one evaluates or saves."""
        going_on = [member for member in self.members if member.error is None]
        for member in going_on:
            member.trainer.step += 1
        due = [member for member in going_on if member.is_due]
        for member in going_on:
            if member not in due:
                member.attempt(member.trainer.after_step)
        if due:
            self.pause(due, going_on)

    def pause(self, due: list[Member], going_on: list[Member]) -> None:
        outer = take_generators(due[0].trainer.device)
        for member in going_on:
            member.trainer.clock.stop()
        for member in due:
            with self.acting_anew(member):
                member.attempt(member.trainer.after_step)
        set_generators(outer, due[0].trainer.device)
        for member in going_on:
            member.trainer.clock.start()

    @contextmanager
    def acting_anew(self, member: Member) -> Iterator[None]:
        """What is saved within does not begin again with what its first steps would have drawn."""
        with member.acting():
            if self.stack is not None and self.choice.draws:
                renew_generator(member.trainer.device)
            yield

    # ------------------------------------------------------------------ the end of some

    def part(self) -> None:
        """Members that are over leave, each with its own storage; the others are stacked anew."""
        leaving = [member for member in self.members if member.is_over]
        if not leaving:
            return
        outer = take_generators(leaving[0].trainer.device)
        self.members = [member for member in self.members if not member.is_over]
        for member in leaving:
            detach(member.trainer.model)
        for member in leaving:
            if member.error is None:
                with self.acting_anew(member):
                    member.attempt(member.trainer.finish)
        self.on_end(leaving)
        set_generators(outer, leaving[0].trainer.device)
        if self.stack is not None:
            self.restack()
        for member in self.members:
            member.trainer.clock.start()

    def restack(self) -> None:
        trainers = [member.trainer for member in self.members]
        stacked = len(trainers) > 1 and self.choice.method != LOOP
        self.stack = Stack(trainers, self.choice.method) if stacked else None


# ---------------------------------------------------------------------- random generators

Generators = dict[str, Any]


def take_generators(device: torch.device) -> Generators:
    """The global generators as they are; `engine/seeding.py` has them as plain data."""
    state = {"python": random.getstate(), "numpy": np.random.get_state()}
    state["cpu"] = torch.get_rng_state()
    return state | ({} if device.type == "cpu" else {device.type: generator_state(device)})


def set_generators(state: Generators, device: torch.device) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["cpu"])
    if device.type != "cpu":
        set_generator_state(state[device.type], device)


def renew_generator(device: torch.device) -> None:
    """Goes on elsewhere in what follows from the seed. A stack draws dropout for all its members
    at once; one that is resumed alone must not begin again with what its first steps would have
    drawn.
    """
    torch.manual_seed(int(torch.randint(2**62, (), device=device)))
