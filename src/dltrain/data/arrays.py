"""What a dataset gives: arrays by split, checked against the facts that stand in its yaml."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_MAX_CLASSES = 10_000_000  # each has its name and its row of weights


class Arrays(NamedTuple):
    """One split. inputs: uint8 [N, C, H, W] or float32 [N, F]; targets: int64 [N]."""

    inputs: np.ndarray
    targets: np.ndarray


class Facts(NamedTuple):
    """What the yaml says of a dataset. mean and std are by channel, of values in [0, 1]."""

    num_classes: int
    image_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def check_facts(
    num_classes: int, image_shape: Sequence[int], mean: Sequence[float], std: Sequence[float]
) -> Facts:
    """The same as plain tuples. Raises ValueError where they contradict each other."""
    check_count("num_classes", num_classes, least=1, most=_MAX_CLASSES)
    shape = tuple(image_shape)
    if len(shape) not in (1, 3) or not all(_is_whole(size) and size > 0 for size in shape):
        raise ValueError(
            f"dataset.image_shape is {list(shape)}; it must be [channels, height, width] or "
            "[features], whole numbers > 0"
        )
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, shape[0]) or not all(map(_is_number, values)):
            raise ValueError(
                f"dataset.{name} is {list(values)}; it must hold {shape[0]} numbers, one for each "
                "channel of dataset.image_shape, or one number for all"
            )
    if min(std) <= 0:
        raise ValueError(f"dataset.std is {list(std)}; every number must be > 0")
    return Facts(num_classes, shape, tuple(map(float, mean)), tuple(map(float, std)))


def check_count(name: str, value: int, *, least: int, most: int | None = None) -> None:
    """Raises ValueError unless value is a whole number in [least, most]."""
    if not _is_whole(value) or value < least or (most is not None and value > most):
        limit = f"from {least} to {most}" if most is not None else f">= {least}"
        raise ValueError(f"dataset.{name} is {value!r}; it must be a whole number {limit}")


def check_split_sizes(
    num_samples: int, num_val: int, num_test: int, *, seed: int
) -> dict[str, int]:
    """Sizes by split of a dataset that is made by seed. Raises ValueError for what cannot be."""
    check_count("num_samples", num_samples, least=1)
    check_count("num_val", num_val, least=0)
    check_count("num_test", num_test, least=0)
    check_seed(seed)
    return {"train": num_samples, "val": num_val, "test": num_test}


def check_seed(seed: int) -> None:
    """Raises ValueError for a split_seed that numpy's RandomState does not take."""
    check_count("split_seed", seed, least=0, most=2**32 - 1)


def check_arrays(arrays: Arrays, facts: Facts, source: object) -> Arrays:
    """The same arrays, if they are what the facts say. `source` names them in the ValueError."""
    inputs, targets = arrays
    assert len(inputs) == len(targets), (len(inputs), len(targets))
    if inputs.shape[1:] != facts.image_shape:
        raise ValueError(
            f"{source} holds samples of shape {list(inputs.shape[1:])}, but dataset.image_shape "
            f"is {list(facts.image_shape)}"
        )
    check_labels(targets, facts.num_classes, source)
    return arrays


def check_labels(targets: np.ndarray, num_classes: int, source: object) -> None:
    """Raises ValueError unless there are labels and all lie in [0, num_classes)."""
    if not len(targets):
        raise ValueError(f"{source} holds no sample; expected at least one")
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{source} holds labels from {low} to {high}, but with dataset.num_classes "
            f"{num_classes} they must be from 0 to {num_classes - 1}"
        )


def take(arrays: Arrays, index: np.ndarray) -> Arrays:
    """The samples of index, in its order (a copy)."""
    return Arrays(arrays.inputs[index], arrays.targets[index])


def hold_out(arrays: Arrays, num_val: int, *, seed: int) -> tuple[Arrays, Arrays]:
    """A training set without, and a validation set of, num_val samples; stratified, by seed."""
    check_count("num_val", num_val, least=0, most=len(arrays.targets) - 1)
    train, val = stratified_split(arrays.targets, num_val, seed=seed)
    return take(arrays, train), take(arrays, val)


def stratified_split(
    targets: np.ndarray, num_held_out: int, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices kept and held out, each ascending; every class gives its share, to within one sample.

    Exactly num_held_out are held out (largest remainders first). The same targets and seed give
    the same split with any version of numpy: RandomState's stream is frozen (NEP 19).
    """
    check_seed(seed)
    shuffled = np.random.RandomState(seed).permutation(len(targets))
    by_class = shuffled[np.argsort(targets[shuffled], kind="stable")]
    _, sizes = np.unique(targets, return_counts=True)
    shares = sizes * num_held_out / len(targets)
    quotas = np.floor(shares).astype(np.int64)
    left = num_held_out - int(quotas.sum())
    quotas[np.argsort(quotas - shares, kind="stable")[:left]] += 1
    place_in_class = np.arange(len(targets)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    held_out = place_in_class < np.repeat(quotas, sizes)
    return np.sort(by_class[~held_out]), np.sort(by_class[held_out])


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return (_is_whole(value) or isinstance(value, float)) and math.isfinite(value)  # type: ignore[arg-type]
