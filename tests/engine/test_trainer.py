"""The loop: stopped anywhere it goes on as if nothing had happened, and it counts right."""

import json
import math
import time
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from dltrain.engine.callback import Callback
from dltrain.engine.checkpoint import by_value, read_checkpoint
from dltrain.engine.evaluate import evaluate
from dltrain.engine.guard import DeviceGuard, HostGuard
from dltrain.engine.update import Update
from dltrain.errors import NonFiniteError, UserError

TIMES = ("time", "samples_per_sec", "data_share")  # no two runs take the same


class StopAt(Callback):
    """Asks to stop as a signal does, after some step."""

    def __init__(self, step):
        self.step = step

    def after_update(self, trainer):
        if trainer.step == self.step:
            trainer.stop("signal", 15)


def rows(run):
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [{k: v for k, v in r.items() if k not in TIMES} for r in found]


def result(run):
    run.trainer.close()
    run.metrics_log.close()
    trainer = run.trainer
    tensors = {f"model.{k}": v for k, v in trainer.model.state_dict().items()}
    tensors |= {f"eval.{k}": v for k, v in trainer.eval_model.state_dict().items()}
    for key, values in trainer.update.state_dict()["state"].items():
        tensors |= {f"{key}.{name}": value for name, value in values.items()}
    return tensors, rows(run), trainer.best


def assert_same(left, right):
    assert left[1] == right[1]
    assert left[2] == right[2]
    assert left[0].keys() == right[0].keys()
    for name, tensor in left[0].items():
        assert torch.equal(tensor, right[0][name]), name


def straight(training, folder, **settings):
    run = training.start(training.make_run(folder, **settings))
    run.trainer.fit()
    return result(run)


@pytest.mark.parametrize("cut", [1, 4, 5, 7, 10, 13, 20, 21, 22])
def test_a_run_that_was_stopped_and_resumed_is_the_same_to_the_bit(training, tmp_path, cut):
    """Weights, EMA, optimizer, metrics and best, with dropout, BatchNorm, shuffling, a schedule."""
    expected = straight(training, tmp_path / "straight", accumulate=2)
    first = training.make_run(tmp_path / "cut", accumulate=2)
    first.trainer.after_update.append(StopAt(cut).after_update)
    training.start(first).trainer.fit()
    result(first)
    second = training.start(training.make_run(tmp_path / "cut", accumulate=2))
    assert second.trainer.step == cut
    second.trainer.fit()
    assert_same(result(second), expected)


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(training, tmp_path):
    """What was logged after the checkpoint is cut off, so that no step is there twice."""
    expected = straight(training, tmp_path / "straight")
    first = training.start(training.make_run(tmp_path / "cut"))

    class PowerCutError(BaseException):
        pass

    def die(trainer):
        if trainer.step == 18:
            raise PowerCutError

    first.trainer.after_update.append(die)
    with pytest.raises(PowerCutError):
        first.trainer.fit()
    result(first)
    second = training.start(training.make_run(tmp_path / "cut"))
    assert second.trainer.step == 15
    second.trainer.fit()
    assert_same(result(second), expected)


def test_an_evaluation_cut_short_by_a_signal_is_done_again(training, tmp_path):
    expected = straight(training, tmp_path / "straight")
    first = training.start(training.make_run(tmp_path / "cut"))
    loader, trainer = first.trainer.val_loader, first.trainer

    class Interrupting:
        num_samples = loader.num_samples

        def epoch(self, epoch):
            for number, batch in enumerate(loader.epoch(epoch)):
                if trainer.step == 10 and number == 1:
                    trainer.stop("signal", 15)
                yield batch

    trainer.val_loader = Interrupting()
    trainer.fit()
    result(first)
    assert not [r for r in rows(first) if r["step"] == 10 and r["split"] == "val"]
    second = training.start(training.make_run(tmp_path / "cut"))
    assert second.trainer.step == 10
    second.trainer.fit()
    assert_same(result(second), expected)


@pytest.mark.parametrize("accumulate", [2, 3, 13, 20])
def test_micro_batches_are_the_whole_batch(training, tmp_path, accumulate):
    """But for BatchNorm and dropout, which see one piece at a time; the short last batch too."""
    settings = {"norm": False, "dropout": 0.0, "ema": False, "lr": 0.1}
    whole = straight(training, tmp_path / "1", **settings)
    pieces = straight(training, tmp_path / "k", accumulate=accumulate, **settings)
    for name in whole[0]:
        if not name.startswith("exp_avg_sq"):
            torch.testing.assert_close(pieces[0][name], whole[0][name], rtol=2e-3, atol=2e-4)
    assert [(r["step"], r["split"]) for r in pieces[1]] == [
        (r["step"], r["split"]) for r in whole[1]
    ]
    for ours, theirs in zip(pieces[1], whole[1], strict=True):
        assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=0.04)
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)


def test_rows_come_when_they_are_due_and_at_the_last_step(training, tmp_path):
    _, found, _ = straight(training, tmp_path / "run")
    steps = {split: [r["step"] for r in found if r["split"] == split] for split in ("train", "val")}
    assert steps == {"train": [4, 8, 12, 16, 20, 22], "val": [5, 10, 15, 20, 22]}
    assert [r["epoch"] for r in found if r["split"] == "val"] == [1, 2, 3, 4, 4]


def test_the_training_metrics_are_those_of_the_samples_seen(training, tmp_path):
    """At lr 0 the weights stand still, so the sums over an epoch are those of an evaluation."""
    run = training.start(
        training.make_run(
            tmp_path / "run", num_steps=5, log_every=5, ema=False, norm=False, dropout=0.0, lr=1e-30
        )
    )
    run.trainer.val_loader = training.make_loader(60, 7, shuffle=False)
    run.trainer.fit()
    train, val = result(run)[1]
    assert train["accuracy"] == val["accuracy"]
    assert train["loss"] == pytest.approx(val["loss"], rel=1e-6)


def test_one_batch_can_be_learned_by_heart(training, tmp_path):
    run = training.start(
        training.make_run(
            tmp_path / "run",
            num_steps=300,
            num_samples=13,
            ema=False,
            dropout=0.0,
            log_every=300,
            eval_every=300,
            save_every=300,
            lr=0.03,
        )
    )
    run.trainer.fit()
    assert result(run)[1][0]["step"] == 300
    loss, _ = run.trainer.task.train(run.trainer.model, next(run.trainer.train_loader.epoch(0)))
    assert loss.item() < 0.01


def test_golden_steps(training, tmp_path):
    """If this fails and nothing else does, the numbers of every run have changed: say why."""
    _, found, _ = straight(training, tmp_path / "run", ema=False, dropout=0.0)
    losses = [r["loss"] for r in found if r["split"] == "train"]
    assert losses == pytest.approx(GOLDEN, rel=1e-4), "order, initialisation, schedule or update"


GOLDEN = [1.894029, 1.707953, 1.540993, 1.484205, 1.435069, 1.376853]


def test_time_ends_a_run_with_everything_done(training, tmp_path):
    run = training.start(training.make_run(tmp_path / "run", num_steps=None, max_time_sec=0.3))
    run.trainer.fit()
    _, found, _ = result(run)
    assert run.trainer.should_stop == "max_time"
    assert found[-1]["split"] == "val"
    assert found[-1]["step"] == run.trainer.step == run.saver.last_saved
    assert 0 <= run.trainer.progress <= 1


def test_a_nonfinite_step_ends_the_run_with_its_last_checkpoint(training, tmp_path):
    run = training.start(training.make_run(tmp_path / "run", ema=False))

    def poison(trainer):
        if trainer.step == 12:
            trainer.model[1].weight.data[0, 0] = float("nan")

    run.trainer.after_update.append(poison)
    with pytest.raises(NonFiniteError):
        run.trainer.fit()
    result(run)
    assert run.saver.load_newest().step == 10
    assert all(torch.isfinite(v).all() for v in run.saver.load_newest().model.values())


def test_weights_that_were_not_evaluated_are_never_the_best(training, tmp_path):
    """Saves fall between evaluations; the best is what was measured, and it is kept."""
    run = training.start(training.make_run(tmp_path / "run", save_every=3, eval_every=5, ema=False))
    run.trainer.fit()
    _, found, best = result(run)
    path = by_value(run.saver.folder, "accuracy/val", "max")[0]
    assert int(path.name[5:]) == best["step"]
    assert best["step"] in [r["step"] for r in found if r["split"] == "val"]
    checkpoint = read_checkpoint(path)
    run.trainer.model.load_state_dict(checkpoint.model)
    metrics = evaluate(
        run.trainer.model, run.trainer.task, run.trainer.val_loader, autocast=nullcontext
    )
    assert metrics["accuracy"] == best["value"]


def test_a_smaller_budget_ends_a_run_that_is_past_it(training, tmp_path):
    straight(training, tmp_path / "run")
    again = training.start(training.make_run(tmp_path / "run", num_steps=10))
    again.trainer.fit()
    assert again.trainer.step == 22
    result(again)


def test_a_nan_in_validation_is_recorded_and_survived(training, tmp_path):
    run = training.start(training.make_run(tmp_path / "run", ema=False))
    task = run.trainer.task
    evaluate_task = task.evaluate
    task.evaluate = lambda model, batch: (
        evaluate_task(model, batch) | {"loss": torch.tensor(float("nan"))}
    )
    run.trainer.fit()
    _, found, _ = result(run)
    assert {r["loss"] for r in found if r["split"] == "val"} == {None}
    state = run.saver.load_newest().state
    assert math.isnan(state["metrics"]["loss/val"])


def test_another_batch_size_begins_a_new_epoch(training, tmp_path):
    """Typed on purpose: steps go on, none is doubled, and a budget in epochs holds."""
    first = training.make_run(tmp_path / "run", ema=False)
    first.trainer.after_update.append(StopAt(13).after_update)
    training.start(first).trainer.fit()
    result(first)
    second = training.make_run(tmp_path / "run", ema=False)
    trainer = second.trainer
    trainer.train_loader = training.make_loader(60, 30, shuffle=True)  # 2 steps an epoch, not 5
    trainer.plan = replace(
        trainer.plan, num_steps=5 * 2, steps_per_epoch=2, in_epochs=True, eval_every=2
    )
    training.start(second)
    assert trainer.epoch == 3  # two whole ones and a part, which counts as one
    trainer.fit()
    assert trainer.step == 13 + 2 * 2
    assert trainer.epoch == 5
    seen = [(r["step"], r["split"]) for r in rows(second)]
    assert len(seen) == len(set(seen))
    result(second)


def test_a_signal_never_saves_what_the_guard_has_not_seen(training, tmp_path):
    run = training.start(training.make_run(tmp_path / "run", ema=False))
    trainer = run.trainer
    trainer.update.guard = DeviceGuard(trainer.model, trainer.update.optimizer, skip=False)

    def poison(trainer):
        if trainer.step == 11:
            trainer.update.guard.skipped.fill_(1.0)
            trainer.stop("signal", 15)

    trainer.after_update.append(poison)
    with pytest.raises(NonFiniteError):
        trainer.fit()
    result(run)
    assert run.saver.load_newest().step == 10


def test_a_run_that_was_stopped_early_stays_so(training, tmp_path):
    """Killed between its last checkpoint and its end, it does not train on when resumed."""
    run = training.start(training.make_run(tmp_path / "run", ema=False))
    run.trainer.on_evaluate.append(
        lambda trainer, split, metrics: trainer.stop("enough") if trainer.step == 10 else None
    )
    run.trainer.fit()
    expected = result(run)
    again = training.start(training.make_run(tmp_path / "run", ema=False))
    again.trainer.fit()
    assert again.trainer.should_stop == "enough"
    assert_same(result(again), expected)


def test_the_interval_that_an_evaluation_ends_is_logged(training, tmp_path):
    run = training.start(training.make_run(tmp_path / "run", log_every=50, ema=False))
    run.trainer.on_evaluate.append(lambda trainer, split, metrics: trainer.stop("enough"))
    run.trainer.fit()
    assert [(r["step"], r["split"]) for r in result(run)[1]] == [(5, "val"), (5, "train")]


def test_a_shorter_log_than_the_checkpoint_says_is_not_made_longer(training, tmp_path):
    straight(training, tmp_path / "run")
    path = tmp_path / "run" / "metrics.jsonl"
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(first + b"\n" + rest[:20])  # a torn row would spoil the next
    run = training.start(training.make_run(tmp_path / "run"))
    run.trainer.close()
    run.metrics_log.close()
    assert path.read_bytes() == first + b"\n"


@pytest.mark.parametrize(("before", "after"), [("SGD", "AdamW"), ("AdamW", "SGD")])
def test_another_optimizer_starts_without_a_state(training, tmp_path, before, after):
    makers = {
        "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        "AdamW": lambda model: torch.optim.AdamW(model.parameters(), lr=0.01, fused=True),
    }

    def make(optimizer, num_steps):
        run = training.make_run(tmp_path / "run", num_steps=num_steps, ema=False)
        trainer = run.trainer
        trainer.update = Update(
            trainer.model,
            makers[optimizer](trainer.model),
            schedule=lambda progress: 1.0,
            guard=HostGuard(trainer.model, torch.device("cpu"), skip=False),
        )
        return training.start(run)

    run = make(before, 10)
    run.trainer.fit()
    result(run)
    run = make(after, 15)
    run.trainer.fit()
    keys = run.trainer.update.state_dict()["state"].keys()
    assert keys == ({"momentum_buffer"} if after == "SGD" else {"step", "exp_avg", "exp_avg_sq"})
    result(run)


def test_a_checkpoint_of_another_model_is_refused(training, tmp_path):
    straight(training, tmp_path / "run")
    other = training.make_run(tmp_path / "run", norm=False)
    with pytest.raises(UserError, match="does not fit"):
        other.trainer.prepare(other.saver.load_newest())


def test_an_event_that_no_callback_wants_costs_nothing(training, tmp_path):
    run = training.make_run(tmp_path / "run", ema=False)
    assert run.trainer.after_update == []
    assert run.trainer.on_evaluate == []


def test_rows_and_the_clock_say_how_long_it_waited_for_batches(training, tmp_path):
    """Sleeping takes at least its time on any machine."""
    run = training.make_run(tmp_path / "run", num_steps=8, log_every=4, num_samples=26)
    loader = run.trainer.train_loader

    class Slow:
        batch_size, num_samples = loader.batch_size, loader.num_samples
        __len__ = lambda self: len(loader)  # noqa: E731

        def epoch(self, epoch, start=0):
            for batch in loader.epoch(epoch, start):
                time.sleep(0.01)
                yield batch

    run.trainer.train_loader = Slow()
    run.trainer.after_update.append(lambda trainer: time.sleep(0.01))  # that is no waiting
    training.start(run).trainer.fit()
    result(run)
    lines = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
    found = [row for row in lines if row["split"] == "train"]
    assert [row["step"] for row in found] == [4, 8]
    clock = run.trainer.clock
    assert clock.total_training >= clock.total_waiting >= 8 * 0.0099
    assert clock.total_training - clock.total_waiting >= 8 * 0.0099
    for row in found:
        training_sec = 4 * 13 / row["samples_per_sec"]
        assert training_sec * 1.001 >= row["data_share"] * training_sec >= 4 * 0.0099
