"""Runs as `dltrain train` leaves them, of a few settings and rows that a test chooses."""

import json

import pytest
import yaml
from matplotlib.figure import Figure

CONFIG = {
    "name": "digits_mlp",
    "seed": 0,
    "dataset": {"_target_": "dltrain.data.digits.Digits", "num_classes": 10, "mean": [0.3]},
    "loader": {"batch_size": 64},
    "model": {"_target_": "dltrain.models.mlp.MLP", "hidden_sizes": [256, 256], "num_classes": 10},
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.001, "weight_decay": 0.01},
    "trainer": {"max_epochs": 5, "max_steps": None, "compile": False},
    "loggers": {"tensorboard": {"max_images": 64}},
}
CHOICES = {"dataset": "digits", "model": "mlp", "optimizer": "adamw"}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, as matplotlib holds them."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))
    )
    return figures


@pytest.fixture
def make_run(tmp_path):
    """A function: `make_run("a", seed=1, accuracy=0.9, **{"optimizer.lr": 0.1})` -> its folder."""

    def make(
        folder_name,
        *,
        status="completed",
        accuracy=0.9,
        rows=(),
        choices=CHOICES,
        data=None,
        unresolved=None,
        **changes,
    ):
        folder = tmp_path / folder_name
        folder.mkdir(parents=True)
        config = json.loads(json.dumps(CONFIG))
        for key, value in changes.items():
            *parents, last = key.split(".")
            place = config
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (folder / "run.json").write_text(
            json.dumps({"choices": choices} | ({"data": data} if data else {}))
        )
        if unresolved:
            (folder / ".hydra").mkdir()
            (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(unresolved))
        summary = {
            "status": status,
            "step": 100,
            "best": {"monitor": "accuracy/val", "step": 80, "value": accuracy},
            "last": {"loss/val": 1 - accuracy, "accuracy/val": accuracy - 0.01},
            "test": {"loss": 0.5, "accuracy": accuracy - 0.02},
            "wall_time_sec": 75.2,
            "samples_per_sec": 12345.6,
        }
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return make


@pytest.fixture
def sweep(make_run, tmp_path):
    """Two learning rates with three seeds each; the folder."""
    for number, (lr, seed) in enumerate((lr, seed) for lr in (0.001, 0.01) for seed in (0, 1, 2)):
        accuracy = 0.9 + 0.3 * lr + 0.0123456789 * seed
        rows = [
            {"step": step, "split": "val", "accuracy": accuracy - 1 / step, "loss": 1 / step}
            for step in (50, 100, 150)
        ]
        make_run(
            f"sweep/{number}_lr={lr}_seed={seed}",
            accuracy=accuracy,
            rows=rows,
            seed=seed,
            **{"optimizer.lr": lr},
        )
    return tmp_path / "sweep"
