"""What the arguments of our own parts may be, so that a mistake is found before torch is imported.

The parts check them too, for those who use them without a config; tests hold both to one another.
A class that is not listed is judged by its signature alone, and by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from dltrain.config.durations import PERCENT, parse_duration
from dltrain.config.image_rules import (
    IMAGE_FOLDER,
    MDS,
    PICTURES,
    beta_alpha,
    image_disagreements,
    images_or_part,
    increasing,
    jitter,
    mix_disagreements,
    or_auto,
    pixels_or_part,
    view_disagreements,
    whole_or_list,
)
from dltrain.config.schema import Rule, each, one_of, truth

Rules = dict[str, Rule]


def whole(low: int, high: int = 10**9) -> Rule:
    text = f"it must be a whole number from {low} to {high}"

    def rule(value: Any) -> str | None:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return None if is_whole and low <= value <= high else text

    return rule


def whole_or_null(low: int, high: int = 10**9) -> Rule:
    rule = whole(low, high)
    return lambda value: None if value is None else rule(value)


def between(low: float, high: float, *, without_ends: bool = False) -> Rule:
    signs = ("> ", "< ") if without_ends else (">= ", "<= ")
    text = f"it must be a number {signs[0]}{low:g} and {signs[1]}{high:g}"

    def rule(value: Any) -> str | None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        inside = is_number and low <= value <= high
        return None if inside and not (without_ends and value in (low, high)) else text

    return rule


def positive(value: Any) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_number and 0 < value < math.inf else "it must be a number > 0"


def list_of(rule: Rule, *, least: int = 0) -> Rule:
    def checked(value: Any) -> str | None:
        if not isinstance(value, list) or len(value) < least:
            return "it must be a list" + (f" of at least {least}" if least else "")
        return each(rule)(value)

    return checked


def text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "it must be text"


def part_of_run(*, at_start: bool = False) -> Rule:
    """A duration, or a number that is a fraction of the run already. What is longer than the run in
    steps or epochs ends with it."""
    low = ">=" if at_start else ">"

    def rule(value: Any) -> str | None:
        amount, most = value, 1.0
        if isinstance(value, str):
            try:
                duration = parse_duration(value)
            except ValueError as error:
                return str(error).replace(repr(value), "it", 1)
            amount, most = duration.amount, 100.0 if duration.unit == PERCENT else math.inf
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            return "it must be a part of the run, such as 5%, 500 steps or 2 epochs"
        fits = 0 <= amount <= most and (at_start or amount > 0)
        return None if fits else f"it must be {low} 0 and <= 100% of the run, such as 5%"

    return rule


def image(value: Any) -> str | None:
    if isinstance(value, list) and len(value) == 3:
        return None
    return "it must be [channels, height, width]; model=mlp and model=linear read any shape"


def depth(value: Any) -> str | None:
    known = (18, 34, 50, 101, 152)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if is_whole and (value in known or (8 <= value <= 10_000 and value % 6 == 2)):
        return None
    return "it must be one of 18, 34, 50, 101, 152, or 6n+2: 8, 14, 20, 32, 44, 56, 110, ..."


def metric(value: Any) -> str | None:
    name, _, split = str(value).partition("/")
    ok = bool(name) and split in ("train", "val")
    return None if ok else "it must name a metric and its split, such as accuracy/val"


SIZE = whole(1, 10**6)
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "identity")
MODEL: Rules = {"num_classes": SIZE, "input_shape": list_of(SIZE, least=1)}
SAMPLES: Rules = {"num_samples": whole(1), "num_test": whole(0)}

# By the class, or the package that holds it
PARTS: dict[str, Rules] = {
    "dltrain.data": {
        "num_classes": SIZE,
        "image_shape": list_of(SIZE, least=1),
        "mean": list_of(between(-1e9, 1e9), least=1),
        "std": list_of(positive, least=1),
        "num_val": whole(0),
        "split_seed": whole(0, 2**32 - 1),
        "root": text,
    },
    "dltrain.data.circles.Circles": SAMPLES
    | {
        "radii": list_of(between(0, 1e9)),
        "noise": between(0, 1e9),
        "coordinates": one_of("cartesian", "polar"),
    },
    "dltrain.data.synthetic.Synthetic": SAMPLES,
    "dltrain.data.image_folder.ImageFolder": IMAGE_FOLDER | {"num_test": images_or_part},
    "dltrain.data.imagenet.ImageNet": IMAGE_FOLDER,
    "dltrain.data.mds.MDS": MDS | {"image_column": text, "cache_limit_gb": positive},
    "dltrain.data.packed.Packed": PICTURES
    | {
        "mean": or_auto(list_of(between(-1e9, 1e9), least=1)),
        "std": or_auto(list_of(positive, least=1)),
    },
    "dltrain.data.augment.Crop": {"padding": whole(0, 1024)},
    "dltrain.data.augment.Flip": {"probability": between(0, 1)},
    "dltrain.data.shift.Shift": {"distance": pixels_or_part},
    "dltrain.data.erase.Cutout": {"size": pixels_or_part},
    "dltrain.data.erase.Erase": {
        "probability": between(0, 1),
        "scale": increasing(0, 1),
        "ratio": increasing(0, 1000),
        "value": whole_or_list(3, 0, 255),
    },
    "dltrain.data.resized_crop.RandomResizedCrop": {
        "size": whole_or_list(2, 1, 4096, null=True),
        "scale": increasing(0, 1),
        "ratio": increasing(0, 1000),
    },
    "dltrain.data.color.ColorJitter": {
        **dict.fromkeys(("brightness", "contrast", "saturation"), jitter(0, 100)),
        "hue": jitter(-0.5, 0.5),
    },
    "dltrain.data.policies": {
        "num_ops": whole(1, 16),
        "magnitude": whole(0, 999),
        "num_magnitude_bins": whole(2, 1000),
    },
    "dltrain.data.mix": {"alpha": beta_alpha, "probability": between(0, 1)},
    "dltrain.models.linear.Linear": MODEL,
    "dltrain.models.mlp.MLP": MODEL
    | {
        "hidden_sizes": list_of(SIZE),
        "norm": one_of("none", "batch", "layer"),
        "activation": one_of(*ACTIVATIONS),
    },
    "dltrain.models.cnn.CNN": MODEL | {"widths": list_of(SIZE, least=1), "input_shape": image},
    "dltrain.models.resnet.ResNet": MODEL
    | {"depth": depth, "stem": one_of("cifar", "imagenet", "auto"), "input_shape": image},
    "dltrain.models.torchvision.TorchvisionModel": MODEL | {"name": text, "input_shape": image},
    "dltrain.tasks.classification.Classification": {
        "num_classes": SIZE,
        "views": one_of("none", "flip", "flip_shift"),
    },
    "dltrain.schedulers": {
        "warmup": part_of_run(at_start=True),
        "warmup_start_factor": between(0, 1),
        "final_factor": between(0, 1),
        "gamma": positive,
        "every": part_of_run(),
        "milestones": list_of(part_of_run()),
        "pct_start": part_of_run(at_start=True),
        "div_factor": positive,
        "final_div_factor": positive,
        "anneal": one_of("cos", "linear"),
    },
    "dltrain.callbacks.progress.Progress": {"line_every_sec": between(0, 1e9)},
    "dltrain.callbacks.ema.EMA": {
        "decay": between(0, 1, without_ends=True),
        "every": whole(1),
    },
    "dltrain.callbacks.early_stopping.EarlyStopping": {
        "monitor": metric,
        "mode": one_of("max", "min"),
        "patience": whole(1),
        "min_delta": between(0, 1e9),
    },
    "dltrain.callbacks.profiler.Profiler": {
        "wait": whole(0),
        "warmup": whole(0),
        "active": whole(1, 10**6),
    },
    "dltrain.callbacks.histograms.Histograms": {"every": whole(1)},
    "dltrain.callbacks.embeddings.Embeddings": {"num_samples": whole(1, 10**6)},
    "dltrain.loggers.tensorboard.TensorBoard": {
        "charts": list_of(text),
        "max_images": whole(1, 10**6),
        "windows": whole_or_null(1, 10**6),
    },
    "dltrain.loggers.wandb.WandB": {
        "project": text,
        "mode": one_of("offline", "online"),
        "max_images": whole(1, 10**6),
    },
    "dltrain.loggers.mlflow.MLflow": {"experiment": text, "max_images": whole(1, 10**6)},
    "torch.optim": {
        "rho": between(0, 1),
        "alpha": between(0, 1),
        "dampening": between(0, 1),
        "decay_norm_and_bias": truth,
    },
}


def disagreements(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Values of several groups that do not go together."""
    trainer, loader = config["trainer"], config["loader"]
    if trainer["accumulate"] > loader["batch_size"]:
        wanted = f"it must be <= loader.batch_size, which is {loader['batch_size']}"
        yield "trainer.accumulate", trainer["accumulate"], wanted
    if trainer["device"] == "cpu" and trainer["precision"] == "fp16":
        wanted = "with trainer.device=cpu it must be one of fp32, bf16, auto"
        yield "trainer.precision", "fp16", wanted
    yield from image_disagreements(config["augmentation"], config["dataset"])
    yield from mix_disagreements(config)
    yield from view_disagreements(config)
    labels = config["dataset"].get("num_classes")
    for group in ("model", "task"):
        logits = config[group].get("num_classes")
        if isinstance(labels, int) and isinstance(logits, int) and logits < labels:
            wanted = f"it must be >= dataset.num_classes, which is {labels}"
            yield f"{group}.num_classes", logits, wanted


def part_problems(nodes: Iterator[tuple[str, Mapping[str, Any]]]) -> Iterator[tuple[str, Any, str]]:
    """The key, the value and the rule of every argument that is out of its range."""
    for key, node in nodes:
        for name, rule in rules_of(str(node["_target_"])).items():
            # null is for the signature to judge, or allowed; but durations have no type there
            if name in node and (wrong := rule(node[name])) is not None:
                yield f"{key}.{name}", node[name], wrong
        yield from contradictions(key, node)


def rules_of(target: str) -> Rules:
    found: Rules = {}
    for prefix, rules in PARTS.items():
        if target == prefix or target.startswith(f"{prefix}."):
            found |= rules
    return found


def contradictions(key: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Values that are right each for itself and not together."""
    if node["_target_"] == "torch.optim.SGD" and node.get("nesterov") is True:
        if not node.get("momentum"):
            yield f"{key}.nesterov", True, f"it needs {key}.momentum > 0"
        elif node.get("dampening"):
            yield f"{key}.nesterov", True, f"it needs {key}.dampening=0"
    bins, magnitude = node.get("num_magnitude_bins"), node.get("magnitude")
    if isinstance(bins, int) and isinstance(magnitude, int) and magnitude >= bins:
        yield (
            f"{key}.magnitude",
            magnitude,
            f"it must be < {key}.num_magnitude_bins, which is {bins}",
        )
    shape = node.get("image_shape")
    if str(node["_target_"]).startswith("dltrain.data.") and isinstance(shape, list):
        for name in ("mean", "std"):
            values = node.get(name)
            if isinstance(values, list) and shape and len(values) not in (1, shape[0]):
                wanted = f"it must hold one number for all, or {shape[0]}, one for each channel"
                yield f"{key}.{name}", values, wanted
