"""Trainers in step: each is what it is alone."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dltrain import runs
from dltrain.callbacks.early_stopping import EarlyStopping
from dltrain.callbacks.ema import EMA
from dltrain.data.augment import Crop, Flip
from dltrain.data.resident import ResidentLoader
from dltrain.engine import together
from dltrain.engine.guard import DeviceGuard, HostGuard, refuse_nan
from dltrain.engine.plan import SIGNAL, Plan
from dltrain.engine.record import Recorder
from dltrain.engine.saver import Saver
from dltrain.engine.seeding import seed_everything
from dltrain.engine.stack import LOOP, PRODUCTS, VMAP
from dltrain.engine.stack_choice import Choice, choose, how_many
from dltrain.engine.together import Member, Together
from dltrain.engine.trainer import Trainer
from dltrain.engine.update import Update
from dltrain.errors import NonFiniteError
from dltrain.models.cnn import CNN
from dltrain.models.linear import Linear
from dltrain.models.mlp import MLP
from dltrain.models.resnet import ResNet
from dltrain.schedulers.constant import Constant
from dltrain.schedulers.cosine import Cosine
from dltrain.tasks.classification import Classification

SHAPE = {"input_shape": [1, 8, 8], "num_classes": 6}
MODELS = {
    "linear": lambda **_: Linear(**SHAPE),
    "mlp": lambda **more: MLP(**SHAPE, **{"hidden_sizes": [16, 12], **more}),
    "mlp_batch": lambda **more: MLP(**SHAPE, hidden_sizes=[16], norm="batch", **more),
    "mlp_layer": lambda **_: MLP(**SHAPE, hidden_sizes=[16], norm="layer", activation="gelu"),
    "cnn": lambda **more: CNN(**SHAPE, widths=[4, 6], **more),
    "resnet": lambda **_: ResNet(**SHAPE, depth=8),
}
# eps: gradients that are zero but for rounding, of biases before a BatchNorm, stay as small as that
ADAMW = (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-4, "fused": True})
SGD = (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "fused": True})
ADAM = (torch.optim.Adam, {"lr": 0.003, "betas": (0.8, 0.99), "eps": 1e-4})


def make_loader(num_samples, *, seed=0, shuffle=False, augmentations=(), device="cpu"):
    generator = torch.Generator().manual_seed(5)
    targets = torch.arange(num_samples) % 6
    inputs = torch.randint(0, 150, (num_samples, 1, 8, 8), generator=generator)
    inputs[:, :, 2:4] += 15 * targets[:, None, None, None]
    return ResidentLoader(
        inputs.to(torch.uint8), targets, batch_size=13 if shuffle else 20, mean=[0.3], std=[0.2],
        device=device, shuffle=shuffle, seed=seed, augmentations=augmentations,
    )  # fmt: skip


def make(
    folder, model="mlp", *, seed=0, optimizer=ADAMW, num_steps=22, smoothing=0.0, clip=None,
    schedule=None, callbacks=dict, accumulate=1, augmentations=(), skip=False, every=5,
    device="cpu", **more,
):  # fmt: skip
    """As a command builds a run: seeded, with its own files. 5 steps an epoch, the last short."""
    folder.mkdir(exist_ok=True, parents=True)
    seed_everything(seed)
    network = MODELS[model](**more).to(device)
    optimizer_class, options = optimizer
    made = optimizer_class(network.parameters(), **options)
    on_device = device == "cuda" and options.get("fused")
    guard = (
        DeviceGuard(network, made, skip=skip)
        if on_device
        else HostGuard(network, torch.device(device), skip=skip)
    )
    train_loader = make_loader(
        60, seed=seed, shuffle=True, augmentations=augmentations, device=device
    )
    log = runs.MetricsLog(folder / runs.METRICS)
    trainer = Trainer(
        model=network,
        task=Classification(num_classes=6, label_smoothing=smoothing),
        update=Update(
            network,
            made,
            schedule=schedule or Cosine(final_factor=0.0, warmup=0.1),
            guard=guard,
            clip=clip,
        ),
        train_loader=train_loader,
        val_loader=make_loader(31, device=device),
        plan=Plan(num_steps, math.inf, 4, every, every, len(train_loader)),
        recorder=Recorder(log, {}),
        saver=Saver(
            folder / runs.CHECKPOINTS, keep=2, monitor="loss/val", mode="min", config_digest=""
        ),
        callbacks=callbacks(),
        accumulate=accumulate,
    )
    trainer.on_evaluate.append(refuse_nan)
    checkpoint = trainer.saver.load_newest()
    trainer.prepare(checkpoint)
    log.open(checkpoint.state["recorder"]["offset"] if checkpoint else 0)
    return SimpleNamespace(trainer=trainer, member=Member(trainer), log=log, folder=folder)


def train(made, monkeypatch=None, method=None):
    """Trains together; {} or what ended a run, by its folder's name."""
    ended, said = {}, []
    if method is not None:
        monkeypatch.setattr(together, "choose", lambda *_: Choice(method, 1))

    def on_end(members):
        for member in members:
            run = next(run for run in made if run.member is member)
            ended[run.folder.name] = member.error
            member.trainer.close()
            run.log.close()

    Together([run.member for run in made], on_end, said.append).fit()
    assert len(ended) == len(made)
    return SimpleNamespace(failed={k: v for k, v in ended.items() if v}, said=said)


def train_alone(run):
    run.trainer.fit()
    run.trainer.close()
    run.log.close()


def rows_of(run):
    rows = [json.loads(line) for line in (run.folder / runs.METRICS).read_text().splitlines()]
    left_out = ("time", "samples_per_sec", "data_share")
    return [{k: v for k, v in row.items() if k not in left_out} for row in rows]


def assert_same(run, alone, tolerance=2e-4):
    """The same rows, the same weights, the same checkpoints, up to the order of sums."""
    mine, theirs = rows_of(run), rows_of(alone)
    assert [(row["step"], row["split"]) for row in mine] == [
        (row["step"], row["split"]) for row in theirs
    ]
    for row, other in zip(mine, theirs, strict=True):
        assert row.keys() == other.keys()
        for key in row.keys() - {"split"}:
            near = 0.05 if key.startswith("accuracy") else tolerance  # a sample near a tie or two
            assert row[key] == pytest.approx(other[key], rel=tolerance, abs=near), (key, row)
    for name, tensor in run.trainer.model.state_dict().items():
        torch.testing.assert_close(
            tensor, alone.trainer.model.state_dict()[name], rtol=tolerance, atol=tolerance
        )
    assert run.trainer.should_stop == alone.trainer.should_stop
    assert run.trainer.step == alone.trainer.step
    names = [sorted(p.name for p in (r.folder / "checkpoints").iterdir()) for r in (run, alone)]
    assert names[0] == names[1]


@pytest.fixture
def check(tmp_path, monkeypatch):
    """A function: trains variants together, and each alone, and compares them."""

    def compare(variants, method, **common):
        made = [make(tmp_path / f"m{i}", **common, **v) for i, v in enumerate(variants)]
        assert not train(made, monkeypatch, method).failed
        for i, variant in enumerate(variants):
            alone = make(tmp_path / f"a{i}", **common, **variant)
            train_alone(alone)
            assert_same(made[i], alone)

    return compare


def clip(grads):
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    torch._foreach_mul_(grads, (0.5 / (norm + 1e-6)).clamp(max=1.0))
    return norm


def early():
    return {
        "early_stopping": EarlyStopping(monitor="loss/val", mode="min", patience=1, min_delta=9)
    }


def ema():
    return {"ema": EMA(decay=0.9, every=2, warmup=True)}


METHODS = [
    ("linear", PRODUCTS), ("mlp", PRODUCTS), ("mlp_batch", PRODUCTS), ("mlp_layer", PRODUCTS),
    ("mlp", VMAP), ("cnn", VMAP), ("resnet", VMAP), ("mlp", LOOP),
]  # fmt: skip


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=cuda)])
@pytest.mark.parametrize(("model", "method"), METHODS)
def test_each_is_what_it_is_alone_over_a_hundred_steps(check, model, method, device):
    """Of another seed, learning rate, optimizer, schedule, smoothing, length."""
    steps = 100 if method != VMAP else 30
    check(
        [
            {"seed": 1, "num_steps": steps},
            {"seed": 2, "num_steps": steps, "optimizer": SGD, "smoothing": 0.1},
            {"seed": 1, "num_steps": steps, "optimizer": ADAM, "schedule": Constant()},
            {"seed": 3, "num_steps": steps - 17, "clip": clip},
        ],
        method,
        model=model,
        every=50,
        device=device,
    )


@pytest.mark.parametrize(("model", "method"), [("mlp_batch", PRODUCTS), ("cnn", VMAP)])
def test_averages_micro_batches_augmentation_and_skipped_steps_are_each_their_own(
    check, model, method
):
    parts = (Crop(padding=1), Flip(probability=0.5))
    check(
        [{"seed": 1, "callbacks": ema}, {"seed": 2, "skip": True}, {"seed": 3, "clip": clip}],
        method,
        model=model,
        accumulate=3,
        augmentations=parts,
    )


def test_one_that_stops_early_leaves_and_the_others_go_on(check):
    check([{"seed": 1, "callbacks": early}, {"seed": 2}, {"seed": 3}], PRODUCTS)


def test_one_that_diverges_fails_alone(tmp_path, monkeypatch):
    made = [
        make(tmp_path / "good", seed=1),
        make(tmp_path / "bad", seed=2, optimizer=(torch.optim.SGD, {"lr": 1e30})),
        make(tmp_path / "other", seed=3),
    ]
    failed = train(made, monkeypatch, PRODUCTS).failed
    assert failed.keys() == {"bad"}
    assert isinstance(failed["bad"], NonFiniteError)
    for name, seed in (("good", 1), ("other", 3)):
        alone = make(tmp_path / f"alone-{name}", seed=seed)
        train_alone(alone)
        assert_same(next(run for run in made if run.folder.name == name), alone)


def test_a_signal_saves_all_and_each_goes_on_alone_as_if_never_stopped(tmp_path, monkeypatch):
    made = [make(tmp_path / f"m{seed}", "mlp_batch", seed=seed) for seed in (1, 2)]

    def stop(trainer):
        if trainer.step == 12:
            for run in made:
                run.trainer.stop(SIGNAL, 15)

    made[0].trainer.after_update.append(stop)
    assert not train(made, monkeypatch, PRODUCTS).failed
    for seed in (1, 2):
        again = make(tmp_path / f"m{seed}", "mlp_batch", seed=seed)
        assert again.trainer.step == 12
        train_alone(again)
        alone = make(tmp_path / f"a{seed}", "mlp_batch", seed=seed)
        train_alone(alone)
        assert_same(again, alone)


def test_those_that_go_on_from_different_steps_train_together(tmp_path, monkeypatch):
    stopped = make(tmp_path / "m1", seed=1, num_steps=10)
    train_alone(stopped)
    made = [make(tmp_path / f"m{seed}", seed=seed) for seed in (1, 2)]
    assert [run.trainer.step for run in made] == [10, 0]
    assert not train(made, monkeypatch, PRODUCTS).failed
    alone = make(tmp_path / "a2", seed=2)
    train_alone(alone)
    assert_same(made[1], alone)
    again = make(tmp_path / "a1", seed=1, num_steps=10)
    train_alone(again)
    train_alone(again := make(tmp_path / "a1", seed=1))
    assert_same(made[0], again)


def test_one_after_another_dropout_is_to_the_bit_what_it_is_alone(tmp_path, monkeypatch):
    made = [make(tmp_path / f"m{seed}", seed=seed, dropout=0.3) for seed in (1, 2)]
    train(made, monkeypatch, LOOP)
    for run, seed in zip(made, (1, 2), strict=True):
        alone = make(tmp_path / f"a{seed}", seed=seed, dropout=0.3)
        train_alone(alone)
        assert rows_of(run) == rows_of(alone)


@pytest.mark.parametrize(("model", "method"), [("mlp", PRODUCTS), ("cnn", VMAP)])
def test_dropout_differs_between_members_and_from_what_follows_a_resumption(
    tmp_path, monkeypatch, model, method
):
    """Members of one seed and one setting draw their own; only with dropout do they part."""
    for dropout in (0.0, 0.3):
        made = [make(tmp_path / f"{dropout}-{i}", model, dropout=dropout) for i in (0, 1)]
        states = [run.member.generators["cpu"] for run in made]
        monkeypatch.setattr(together, "choose", lambda *_, d=dropout: Choice(method, 1, d > 0))
        train(made)
        first, second = (run.trainer.model.state_dict() for run in made)
        same = all(torch.allclose(first[name], second[name], atol=1e-4) for name in first)
        assert same == (dropout == 0)
        after = made[0].trainer.saver.load_newest().state["random"]["torch"]
        assert torch.equal(after, states[0]) == (dropout == 0)


# ---------------------------------------------------------------------- how, and how many


class Odd(nn.Module):
    """Looks at values, for which vmap has no rule."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 6)

    def forward(self, x):
        x = x.flatten(1)
        return self.head(x if x.sum() > 0 else -x)


class Wrong(MLP):
    """Whose batched way gives something else."""

    def forward_stacked(self, weights, buffers, x):
        return 1.1 * super().forward_stacked(weights, buffers, x)


def choice_of(tmp_path, model, monkeypatch, **more):
    monkeypatch.setitem(MODELS, "tried", model)
    made = [make(tmp_path / f"c{i}", "tried", seed=i, **more) for i in range(3)]
    before = [{k: v.clone() for k, v in run.trainer.model.state_dict().items()} for run in made]
    state = torch.get_rng_state()
    trainers = [run.trainer for run in made]
    for trainer in trainers:
        trainer.model.train()
    choice = choose(trainers, [next(trainer.batches()) for trainer in trainers])
    assert torch.equal(state, torch.get_rng_state())
    for run, was in zip(made, before, strict=True):
        assert all(param.grad is None for param in run.trainer.model.parameters())
        for name, tensor in run.trainer.model.state_dict().items():
            assert torch.equal(tensor, was[name]), name
        run.log.close()
    return choice


def test_as_many_are_trained_together_as_memory_and_cache_hold(tmp_path):
    small, large = (make(tmp_path / str(i), hidden_sizes=[size]) for i, size in ((0, 4), (1, 9000)))
    batch = next(small.trainer.batches())
    assert how_many(small.trainer, batch, 1e12) == 64
    assert how_many(large.trainer, batch, 1e12) == 16
    before = how_many(large.trainer, batch, 3e8)
    assert 1 < before < 16
    assert how_many(large.trainer, batch, 6e8) >= 2 * before - 1
    assert how_many(large.trainer, batch, 10) == 1
    for run in (small, large):
        run.log.close()


def test_trying_changes_nothing_and_finds_dropout(tmp_path, monkeypatch):
    assert choice_of(tmp_path, MODELS["mlp_batch"], monkeypatch).draws is False
    assert choice_of(tmp_path, MODELS["cnn"], monkeypatch, dropout=0.5).draws is True


def test_a_model_that_cannot_be_stacked_is_stepped_one_after_another(tmp_path, monkeypatch):
    choice = choice_of(tmp_path, lambda **_: Odd(), monkeypatch)
    assert choice.method == LOOP
    assert "vmap" in choice.describe()


def test_a_batched_way_that_gives_other_losses_is_not_taken(tmp_path, monkeypatch):
    choice = choice_of(tmp_path, lambda **_: Wrong(**SHAPE, hidden_sizes=[8]), monkeypatch)
    assert choice.method == LOOP
    assert "not those of the models alone" in choice.describe()
