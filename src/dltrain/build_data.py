"""cfg -> data: the dataset, read before torch is imported, and its batches on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

from dltrain import build
from dltrain.errors import NO_SPACE, UserError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Data:
    """A dataset and its splits in host memory: name -> (inputs, targets) as numpy arrays."""

    dataset: Any
    splits: dict[str, Any]


def read_data(
    config: dict[str, Any],
    allowed: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> Data:
    """Reads the dataset; what is missing or malformed is a UserError, before torch is imported.

    `progress` is called while something is downloaded, as progress(file name, bytes, of bytes).
    """
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
    splits = check_splits(splits, config["dataset"]["_target_"])
    check_labels(splits["train"].targets, config["dataset"])
    check_loading(splits["train"], config)
    limit = config["loader"]["limit_batches"]
    if limit is not None:
        splits = {name: limited(name, part, limit, config) for name, part in splits.items()}
    return Data(dataset, splits)


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
        if len(inputs) != len(targets):
            raise UserError(f"{target}: {name} has {len(inputs)} inputs and {len(targets)} targets")
        checked[name] = Arrays(inputs, targets)
    return checked


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


def make_loader(
    config: dict[str, Any],
    data: Data,
    split: str,
    device: torch.device,
    place: str = "device",
    allowed: Sequence[str] = (),
) -> Any:
    """The batches of a split on `device`; only those of `train` are shuffled and augmented.

    `place` is what `placement` says of the whole dataset.
    """
    training = split == "train"
    loader, arrays = config["loader"], data.splits[split]
    if not training and not len(arrays.targets):
        return NoSamples()
    augmentations = build.make_all(config, "augmentation", allowed) if training else {}
    options = {
        "batch_size": loader["batch_size" if training else "eval_batch_size"],
        "mean": data.dataset.mean,
        "std": data.dataset.std,
        "device": device,
        "augmentations": tuple(augmentations.values()),
        "shuffle": training,
        "seed": config["seed"],
        "drop_last": training and loader["drop_last"],
    }
    try:
        if place == "stream":
            return streamed(arrays, split, num_workers=loader["num_workers"], **options)
        return resident(arrays, storage=place, **options)
    except ValueError as error:
        raise UserError(str(error)) from error


def streamed(arrays: Any, split: str, **options: Any) -> Any:
    import torch

    from dltrain.data.streamed import StreamedLoader
    from dltrain.data.workers import ArraySource

    source = ArraySource(arrays.inputs, split)
    return StreamedLoader(source, torch.from_numpy(arrays.targets), **options)


def resident(arrays: Any, **options: Any) -> Any:
    import torch

    from dltrain.data.resident import ResidentLoader

    return ResidentLoader(
        torch.from_numpy(arrays.inputs), torch.from_numpy(arrays.targets), **options
    )


class NoSamples:
    """The loader of a split without samples: everything was wanted for training."""

    num_samples = 0

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        return iter(())

    def close(self) -> None:
        """There is nothing to end."""


def placement(loader: dict[str, Any], data: Data, device: torch.device) -> Any:
    """`device`, `host` or `stream`.

    `auto`: as it is needed where workers were asked for, else on the device if half of its free
    memory is enough, else on the host.
    """
    wanted = loader["placement"]
    if wanted == "auto" and loader["num_workers"]:
        return "stream"
    if wanted != "auto" or device.type == "cpu":
        return "device" if wanted == "auto" else wanted
    import torch

    needed = sum(column.nbytes for split in data.splits.values() for column in split)
    free, _ = torch.cuda.mem_get_info(device)
    return "device" if needed < free / 2 else "host"
