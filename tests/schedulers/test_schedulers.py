"""Schedules are torch's, step for step, and functions of progress alone."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from dltrain.schedulers.constant import Constant
from dltrain.schedulers.cosine import Cosine
from dltrain.schedulers.linear import Linear
from dltrain.schedulers.multi_step import MultiStep
from dltrain.schedulers.one_cycle import OneCycle
from dltrain.schedulers.step import Step

Schedule = Callable[[float], float]
NUM_STEPS, WARMUP = 120, 12
LR = 0.5


def torch_factors(
    make: Callable[[torch.optim.Optimizer], LRScheduler], num_steps: int
) -> list[float]:
    """The lr of each of `num_steps` steps over LR, with the scheduler stepped after each."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    scheduler = make(optimizer)
    factors = []
    for _ in range(num_steps):
        factors.append(optimizer.param_groups[0]["lr"] / LR)
        optimizer.step()
        scheduler.step()
    return factors


def our_factors(schedule: Schedule, num_steps: int) -> list[float]:
    return [schedule(step / num_steps) for step in range(num_steps)]


def assert_same(schedule: Schedule, make: Callable[[torch.optim.Optimizer], LRScheduler]) -> None:
    theirs = torch_factors(make, NUM_STEPS)
    assert our_factors(schedule, NUM_STEPS) == pytest.approx(theirs, abs=1e-6)
    assert len(set(theirs)) > 1


def test_step() -> None:
    assert_same(Step(every=30 / 120, gamma=0.1), lambda opt: StepLR(opt, 30, gamma=0.1))
    assert_same(Step(every=7 / 120, gamma=0.9), lambda opt: StepLR(opt, 7, gamma=0.9))


def test_multi_step() -> None:
    assert_same(
        MultiStep(milestones=[0.5, 90 / 120], gamma=0.1), lambda opt: MultiStepLR(opt, [60, 90])
    )


@pytest.mark.parametrize("final_factor", [0.0, 0.1])
def test_cosine(final_factor: float) -> None:
    assert_same(
        Cosine(final_factor=final_factor),
        lambda opt: CosineAnnealingLR(opt, NUM_STEPS, eta_min=LR * final_factor),
    )


@pytest.mark.parametrize("final_factor", [0.0, 0.1])
def test_linear(final_factor: float) -> None:
    assert_same(
        Linear(final_factor=final_factor),
        lambda opt: LinearLR(opt, 1.0, final_factor, total_iters=NUM_STEPS),
    )


@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize("pct_start", [0.05, 0.3, 0.9])
def test_one_cycle(anneal: str, pct_start: float) -> None:
    # torch counts the steps of a cycle and goes by those between the first and the last.
    schedule = OneCycle(pct_start=pct_start, div_factor=25.0, final_div_factor=1e4, anneal=anneal)
    theirs = torch_factors(
        lambda opt: OneCycleLR(
            opt,
            max_lr=LR,
            total_steps=NUM_STEPS + 1,
            pct_start=(pct_start * NUM_STEPS + 1) / (NUM_STEPS + 1),
            anneal_strategy=anneal,
            cycle_momentum=False,
        ),
        NUM_STEPS,
    )
    ours = our_factors(schedule, NUM_STEPS)
    if (
        pct_start == 0.0
    ):  # torch divides 0 by 0 at the first step and takes the value before the rise
        ours, theirs = ours[1:], theirs[1:]
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert schedule(pct_start) == pytest.approx(1.0)
    assert schedule(1.0) == pytest.approx(1 / 25 / 1e4)


def test_a_cycle_without_a_rise_or_a_fall() -> None:
    falling = OneCycle(**CYCLE | {"pct_start": 0.0})
    assert falling(0.0) == 1.0
    assert falling(0.5) < 0.6
    assert OneCycle(**CYCLE | {"pct_start": 1.0})(1.0) == 1.0


@pytest.mark.filterwarnings("ignore:.*epoch parameter.*")
@pytest.mark.parametrize("start_factor", [0.01, 0.5])
def test_warmup_comes_before_a_decay(start_factor: float) -> None:
    warmup = {"warmup": WARMUP / NUM_STEPS, "warmup_start_factor": start_factor}
    rest = NUM_STEPS - WARMUP

    def after(make: Callable[[torch.optim.Optimizer], LRScheduler]) -> Schedule:
        def sequence(opt: torch.optim.Optimizer) -> LRScheduler:
            ramp = LinearLR(opt, start_factor, 1.0, total_iters=WARMUP)
            return SequentialLR(opt, [ramp, make(opt)], milestones=[WARMUP])

        return sequence

    assert_same(
        Cosine(final_factor=0.1, **warmup),
        after(lambda opt: CosineAnnealingLR(opt, rest, 0.1 * LR)),
    )
    assert_same(
        Linear(final_factor=0.1, **warmup), after(lambda opt: LinearLR(opt, 1.0, 0.1, rest))
    )
    assert_same(Constant(**warmup), lambda opt: LinearLR(opt, start_factor, 1.0, WARMUP))


def test_warmup_does_not_move_milestones() -> None:
    warmup = {"warmup": 0.5, "warmup_start_factor": 0.1}

    def chained(make: Callable[[torch.optim.Optimizer], LRScheduler]) -> Schedule:
        return lambda opt: ChainedScheduler([LinearLR(opt, 0.1, 1.0, NUM_STEPS // 2), make(opt)])

    assert_same(Step(every=0.25, gamma=0.1, **warmup), chained(lambda opt: StepLR(opt, 30, 0.1)))
    assert_same(
        MultiStep(milestones=[0.25, 0.75], gamma=0.1, **warmup),
        chained(lambda opt: MultiStepLR(opt, [30, 90], 0.1)),
    )


def every_schedule(**warmup: float) -> list[Schedule]:
    return [
        Constant(**warmup),
        Cosine(final_factor=0.1, **warmup),
        Linear(final_factor=0.1, **warmup),
        Step(every=0.3, gamma=0.5, **warmup),
        MultiStep(milestones=[0.5, 0.75], gamma=0.5, **warmup),
        OneCycle(pct_start=0.3, div_factor=25, final_div_factor=1e4, anneal="cos", **warmup),
    ]


@given(progress=st.floats(0, 1), warmup=st.floats(0, 1), order=st.randoms())
def test_the_same_progress_gives_the_same_factor(progress: float, warmup: float, order) -> None:
    for schedule in every_schedule(warmup=warmup):
        before, state = schedule(progress), dict(vars(schedule))
        for elsewhere in (order.random() for _ in range(3)):
            schedule(elsewhere)
        assert schedule(progress) == before
        assert vars(schedule) == state
        assert 0.0 <= before <= 1.0
        assert math.isfinite(schedule(1.5))


@given(num_steps=st.integers(1, 10**6), data=st.data())
def test_a_drop_comes_at_its_step_and_not_one_later(num_steps: int, data: st.DataObject) -> None:
    """Whatever the floats: the step `at` of the run is the first with the lower lr."""
    at = data.draw(st.integers(1, num_steps))
    times = data.draw(st.integers(1, max(1, num_steps // at)))
    stretches = Step(every=at / num_steps, gamma=0.5)
    assert stretches(at * times / num_steps) == pytest.approx(0.5**times)
    assert stretches((at * times - 1) / num_steps) == pytest.approx(0.5 ** (times - 1))
    milestone = MultiStep(milestones=[at / num_steps], gamma=0.5)
    assert milestone(at / num_steps) == 0.5
    assert milestone((at - 1) / num_steps) == 1.0


def test_warmup_rises_from_its_start_to_the_full_rate() -> None:
    for schedule, unwarmed in zip(every_schedule(warmup=0.2), every_schedule(), strict=True):
        assert schedule(0.0) == pytest.approx(0.01 * unwarmed(0.0))
        assert schedule(0.1) == pytest.approx(0.505 * unwarmed(0.0))
        assert schedule(0.2) == pytest.approx(unwarmed(0.0))
    assert Constant(warmup=1.0)(0.5) == pytest.approx(0.505)


CYCLE = {"pct_start": 0.3, "div_factor": 25.0, "final_div_factor": 1e4, "anneal": "cos"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(warmup=1.5), "warmup is 150% of the run; .* shorten it, or train longer"),
        (lambda: Constant(warmup=-0.1), "warmup is -10% of the run; it must be >= 0 and <= 100%$"),
        (lambda: Constant(warmup=math.nan), "warmup is nan%"),
        (
            lambda: Constant(warmup_start_factor=2.0),
            "warmup_start_factor is 2; it must be from 0 to 1",
        ),
        (lambda: Cosine(final_factor=-1.0), "final_factor is -1; it must be from 0 to 1"),
        (lambda: Linear(final_factor=1.1), "final_factor is 1.1; it must be from 0 to 1"),
        (lambda: Step(every=0.0, gamma=0.1), "every is 0% of the run; it must be > 0"),
        (lambda: Step(every=0.1, gamma=0.0), "gamma is 0; it must be a number > 0"),
        (lambda: MultiStep(milestones=[0.5, 2.0], gamma=0.1), "a milestone is 200% of the run"),
        (lambda: MultiStep(milestones=[0.75, 0.5], gamma=0.1), "75%, 50% of the run; each must"),
        (lambda: OneCycle(**CYCLE | {"pct_start": 1.5}), "pct_start is 150% of the run"),
        (lambda: OneCycle(**CYCLE | {"div_factor": 0.0}), "div_factor is 0; it must be a number"),
        (
            lambda: OneCycle(**CYCLE | {"anneal": "exp"}),
            "anneal is 'exp'; it must be cos or linear",
        ),
    ],
)
def test_what_is_out_of_range_is_refused(make: Callable[[], Schedule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
