"""Which names could have been meant by one that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

CUTOFF = 0.7  # difflib's 0.6 offers noise for short names: `sgd` and `std` are 0.67 alike
MAX_NAMES = 3


def near_names(name: str, choices: Iterable[str], *, limit: int = MAX_NAMES) -> list[str]:
    """The `choices` that resemble `name`, best first; letter case does not count.

    Names can be dotted: a choice is found by its whole (`optimzer.lr`), by its last component
    (`lr` -> `optimizer.lr`), and by that component's initials (`learning_rate` -> `lr`).
    """
    scored = [
        (_likeness(name.lower(), choice.lower()), choice) for choice in dict.fromkeys(choices)
    ]
    near = [pair for pair in scored if pair[0] >= CUTOFF]
    best = max((score for score, _ in near), default=0.0)
    # Beside a near certainty, what merely resembles it would only distract.
    near = [pair for pair in near if pair[0] >= best - 0.15]
    return [choice for _, choice in sorted(near, key=lambda pair: -pair[0])[:limit]]


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """``did you mean `optimizer.lr`?``, with up to three names; empty where nothing is near."""
    names = [f"`{near}`" for near in near_names(name, choices)]
    if not names:
        return ""
    listed = " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"did you mean {listed}?"


# What other tools call it, where likeness leads nowhere
ELSEWHERE = {
    "accelerator": "trainer.device",
    "devices": "trainer.device",
    "gpu": "trainer.device",
    "gpus": "trainer.device",
    "use_cuda": "trainer.device",
    "no_cuda": "trainer.device",
    "gradient_clip_val": "trainer.max_grad_norm",
    "clip_grad": "trainer.max_grad_norm",
    "clip_grad_norm": "trainer.max_grad_norm",
    "accumulate_grad_batches": "trainer.accumulate",
    "gradient_accumulation_steps": "trainer.accumulate",
    "grad_accum": "trainer.accumulate",
    "check_val_every_n_epoch": "trainer.eval_every",
    "val_check_interval": "trainer.eval_every",
    "log_every_n_steps": "trainer.log_every",
    "logging_steps": "trainer.log_every",
    "limit_train_batches": "loader.limit_batches",
    "fast_dev_run": "debug",
    "overfit_batches": "debug",
    "amp": "trainer.precision",
    "fp16": "trainer.precision",
    "bf16": "trainer.precision",
    "mixed_precision": "trainer.precision",
    "train_batch_size": "loader.batch_size",
    "per_device_train_batch_size": "loader.batch_size",
    "workers": "loader.num_workers",
    "wd": "optimizer.weight_decay",
    "epochs": "trainer.max_epochs",
    "num_epochs": "trainer.max_epochs",
    "num_train_epochs": "trainer.max_epochs",
    "steps": "trainer.max_steps",
    "save_top_k": "checkpoint.keep",
    "save_total_limit": "checkpoint.keep",
    "every_n_epochs": "checkpoint.every",
    "save_steps": "checkpoint.every",
    "ckpt_path": "resume",
    "resume_from_checkpoint": "resume",
    "checkpoint_path": "init_from",
    "pretrained": "init_from",
    "data": "dataset",
    "data_dir": "dataset.root",
    "data_path": "dataset.root",
    "datamodule": "dataset",
    "net": "model",
    "arch": "model",
    "architecture": "model",
    "logger": "loggers",
    "output_dir": "hydra.run.dir",
    "save_dir": "hydra.run.dir",
    "lr_scheduler": "scheduler",
    "optim": "optimizer",
    "hidden": "model.hidden_sizes",
    "transform": "augmentation",
    "transforms": "augmentation",
    "random_seed": "seed",
}


def known_elsewhere(name: str) -> str:
    """``did you mean `trainer.device`?`` for `trainer.gpus`: the names that other tools have."""
    ours = ELSEWHERE.get(name.rpartition(".")[2].lower())
    return f"did you mean `{ours}`?" if ours and ours != name else ""


def _likeness(name: str, choice: str) -> float:
    """From 0 to 1, both in lower case."""
    if name == choice:
        return 1.0
    parent, _, last = name.rpartition(".")
    choice_parent, _, choice_last = choice.rpartition(".")
    last_alike = _component(last, choice_last)
    if not parent:
        return max(_ratio(name, choice), 0.98 * last_alike)
    if parent == choice_parent:  # spelt right, so that only the rest is in doubt
        return 0.98 * last_alike
    comparable = bool(choice_parent) and last_alike >= CUTOFF
    whole = min(_ratio(name, choice), 0.97) if comparable else 0.0
    return max(whole, 0.9 if last == choice_last else 0.0)


def _component(name: str, choice: str) -> float:
    if name == choice:
        return 1.0
    if name and choice and (name == _initials(choice) or choice == _initials(name)):
        return 0.85
    return _ratio(name, choice)


def _ratio(name: str, choice: str) -> float:
    matcher = SequenceMatcher(None, name, choice)
    if matcher.real_quick_ratio() < CUTOFF or matcher.quick_ratio() < CUTOFF:
        return 0.0
    return matcher.ratio()


def _initials(name: str) -> str:
    """`lr` for `learning_rate`; empty for a single word, which has no abbreviation."""
    words = re.findall(r"[a-z0-9]+", name)
    return "".join(word[0] for word in words) if len(words) > 1 else ""
