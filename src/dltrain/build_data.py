"""cfg -> data: the dataset, read and checked before torch is imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from dltrain import build
from dltrain.errors import NO_SPACE, UserError

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Data:
    """A dataset and its splits: name -> (inputs, targets).

    targets are numpy arrays. So are inputs, in host memory; or they are `Pictures`, still in files.
    """

    dataset: Any
    splits: dict[str, Any]


def read_data(
    config: dict[str, Any],
    allowed: Sequence[str] = (),
    progress: Progress | None = None,
    *,
    for_training: bool = True,
) -> Data:
    """Reads the dataset; what is missing or malformed is a UserError, before torch is imported.

    `progress` is called while something is downloaded, as progress(file name, bytes, of bytes).
    for_training: whether it has to be large enough for a batch, and to suit the augmentation.
    """
    dataset, splits = load_splits(config, allowed, progress)
    splits = check_splits(splits, config["dataset"]["_target_"])
    check_facts(dataset, splits["train"], config["dataset"])
    check_labels(splits["train"].targets, config["dataset"])
    if for_training:
        check_loading(splits["train"], config)
    limit = config["loader"]["limit_batches"]
    if limit is not None:
        splits = {name: limited(name, part, limit, config) for name, part in splits.items()}
    return Data(dataset, splits)


def load_splits(
    config: dict[str, Any], allowed: Sequence[str], progress: Progress | None
) -> tuple[Any, Any]:
    """The dataset, and what its `load` gives."""
    dataset = build.make(config, "dataset", allowed=allowed)
    takes_progress = "progress" in signature(dataset.load).parameters
    try:
        splits = dataset.load(progress=progress) if takes_progress else dataset.load()
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        raise UserError(str(error)) from error
    except ValueError as error:
        raise UserError(str(error)) from error
    except MemoryError as error:
        raise UserError(f"dataset: the data do not fit into memory {error}".strip()) from error
    return dataset, splits


def check_splits(splits: Any, target: str) -> dict[str, Any]:
    """`train`, `val` and `test` as Arrays; pairs will do, and `val` and `test` may be missing."""
    from dltrain.data.arrays import Arrays

    if not isinstance(splits, dict) or "train" not in splits:
        raise UserError(
            f"{target}.load() must give a dict with train, and if possible val and test"
        )
    checked = {}
    for name in ("train", "val", "test"):
        inputs, targets = splits.get(name, (column[:0] for column in splits["train"]))
        if not all(
            hasattr(column, "dtype") and hasattr(column, "ndim") for column in (inputs, targets)
        ):
            kinds = f"{type(inputs).__name__} and {type(targets).__name__}"
            raise UserError(f"{target}.load() gives {kinds} for {name}; they must be numpy arrays")
        if len(inputs) != len(targets):
            raise UserError(f"{target}: {name} has {len(inputs)} inputs and {len(targets)} targets")
        checked[name] = Arrays(inputs, targets)
    return checked


def check_facts(dataset: Any, train: Any, facts: dict[str, Any]) -> None:
    """The dataset has what loaders ask of it, and samples of the shape that its yaml says."""
    target, wanted = facts["_target_"], facts.get("image_shape")
    lacking = [name for name in ("mean", "std", "image_shape") if not hasattr(dataset, name)]
    if lacking:
        raise UserError(f"{target} has no attribute {' and no '.join(lacking)}; see the README")
    found = getattr(train.inputs, "sample_shape", train.inputs.shape[1:])
    if wanted is not None and list(found) != list(wanted):
        raise UserError(
            f"{target}.load() gives samples of shape {list(found)}, but dataset.image_shape is "
            f"{list(wanted)}; images are [channels, height, width]"
        )


def check_labels(targets: Any, facts: dict[str, Any]) -> None:
    """Labels are in [0, num_classes), where the dataset says how many classes there are."""
    num_classes = facts.get("num_classes")
    if num_classes is None or targets.ndim != 1 or targets.dtype.kind not in "iu":
        return
    if len(targets) and not 0 <= targets.min() <= targets.max() < num_classes:
        raise UserError(
            f"the labels go from {targets.min()} to {targets.max()}; "
            f"dataset.num_classes is {num_classes}, so they must go from 0 to {num_classes - 1}"
        )


def check_loading(train: Any, config: dict[str, Any]) -> None:
    """What the loaders would refuse too, after torch has been imported."""
    size, num_samples = config["loader"]["batch_size"], len(train.targets)
    if size > num_samples:
        raise UserError(
            f"loader.batch_size is {size}, but the training set has {num_samples} samples; "
            f"choose loader.batch_size <= {num_samples}"
        )
    if config["augmentation"] and (train.inputs.ndim != 4 or train.inputs.dtype != "uint8"):
        raise UserError(
            "augmentation is for images, uint8 [N, C, H, W]; this dataset has "
            f"{train.inputs.dtype} of shape {list(train.inputs.shape)}. Choose augmentation=none"
        )


def limited(name: str, split: Any, limit: int, config: dict[str, Any]) -> Any:
    size = config["loader"]["batch_size" if name == "train" else "eval_batch_size"]
    return type(split)(*(column[: limit * size] for column in split))


def fingerprint(data: Data) -> dict[str, str]:
    """A digest of each split that was read; see `dltrain.data.fingerprint`."""
    from dltrain.data.fingerprint import digest

    return {name: digest(*split) for name, split in data.splits.items() if len(split.targets)}
