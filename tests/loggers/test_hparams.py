"""Hyperparameters are what was chosen, never places, facts of the data or `_target_`s."""

from dltrain.loggers.hparams import hyperparameters

CONFIG = {
    "name": "digits_mlp",
    "seed": 3,
    "choices": {"dataset": "digits", "model": "mlp", "callbacks": ["default", "ema"], "hydra": "x"},
    "dataset": {
        "_target_": "dltrain.data.digits.Digits",
        "root": "data",
        "num_classes": 10,
        "mean": [0.3],
        "std": [0.2],
        "num_val": 200,
    },
    "augmentation": {"flip": {"_target_": "dltrain.data.augment.Flip", "probability": 0.5}},
    "model": {"hidden_sizes": [64, 32], "pretrained": "weights/w.pth", "bias": True},
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3, "betas": [0.9, 0.999]},
    "trainer": {"max_grad_norm": None, "precision": "fp32", "limit": float("inf")},
    "callbacks": {"progress": {"line_every_sec": 2}, "ema": {"decay": 0.99}},
    "hydra": {"verbose": 1},
}


def test_hyperparameters_of_a_config():
    assert hyperparameters(CONFIG) == {
        "dataset": "digits",
        "model": "mlp",
        "seed": 3,
        "dataset.num_val": 200,
        "augmentation.flip.probability": 0.5,
        "model.hidden_sizes": "[64, 32]",
        "model.bias": True,
        "optimizer.lr": 1e-3,
        "optimizer.betas": "[0.9, 0.999]",
        "trainer.precision": "fp32",
        "callbacks.ema.decay": 0.99,
    }


def test_a_config_of_which_nothing_is_known_has_none():
    assert hyperparameters({}) == {}
