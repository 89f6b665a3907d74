"""cfg and data -> batches on the device: where the samples lie, who reads them, and the loaders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dltrain import build
from dltrain.build_data import Data
from dltrain.errors import UserError

if TYPE_CHECKING:
    import torch

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Placement:
    """Where samples lie: on the `device`, the `host`, or in files from which they `stream`."""

    storage: str
    num_workers: int
    why: str  # in a line for the screen


def placement(
    config: dict[str, Any], data: Data, device: torch.device, allowed: Sequence[str] = ()
) -> Placement:
    """What `loader.placement` and `loader.num_workers` come to, before any memory is taken."""
    from dltrain.data.pictures import Pictures
    from dltrain.data.workers import suitable_workers

    loader, inputs = config["loader"], data.splits["train"].inputs
    wanted = loader["placement"]
    num_bytes = sum(column.nbytes for split in data.splits.values() for column in split)
    size = f"{num_bytes / 2**20:,.1f} MiB" if num_bytes < 2**30 else f"{num_bytes / 2**30:,.1f} GiB"
    if isinstance(inputs, Pictures):
        storage, why = place_pictures(config, num_bytes, device, allowed)
        workers = loader["num_workers"]
        num_workers = suitable_workers() if workers == "auto" else workers
    else:
        storage, why = place_arrays(loader, num_bytes, device)
        num_workers = 0 if loader["num_workers"] == "auto" else loader["num_workers"]
    if storage == "stream":
        count = f"{num_workers} worker{'s' * (num_workers > 1)}" if num_workers else "this process"
        text = f"read by {count} as needed{why}"
    else:
        decoded = "decoded once and " if isinstance(inputs, Pictures) else ""
        text = f"{decoded}held {PLACES[storage, device.type]}, {size}{why}"
    chosen = f" (loader.placement={wanted})" if wanted != "auto" else ""
    return Placement(storage, num_workers, text + chosen)


PLACES = {
    ("device", "cpu"): "in memory",
    ("host", "cpu"): "in memory",
    ("device", "cuda"): "on the device",
    ("host", "cuda"): "in the host's memory",
}


def place_arrays(loader: dict[str, Any], num_bytes: int, device: torch.device) -> tuple[str, str]:
    """They are in host memory already. `stream` where workers were asked for; else on the device
    if half of its free memory is enough.
    """
    if loader["placement"] != "auto":
        return loader["placement"], ""
    if loader["num_workers"] not in ("auto", 0):
        return "stream", f": loader.num_workers={loader['num_workers']}"
    if fits_device(num_bytes, device):
        return "device", ""
    return "host", ": more than half of the device's free memory"


def place_pictures(
    config: dict[str, Any], num_bytes: int, device: torch.device, allowed: Sequence[str]
) -> tuple[str, str]:
    """They are in files. Decoded once where that is all that is made of them, and fits."""
    from dltrain.data.memory import available_memory

    wanted = config["loader"]["placement"]
    framing = framing_part(config, allowed)
    if framing and wanted not in ("auto", "stream"):
        raise UserError(
            f"loader.placement is {wanted}, but {framing} takes another part of each image file "
            "every time; choose loader.placement=stream, or another augmentation"
        )
    if wanted != "auto":
        return wanted, ""
    if framing:
        return "stream", f": {framing} takes a part of each file"
    if num_bytes > available_memory() / 2:
        return "stream", f": {num_bytes / 2**30:,.1f} GiB are more than half of the free memory"
    if fits_device(num_bytes, device):
        return "device", ""
    return "host", ": more than half of the device's free memory"


def framing_part(config: dict[str, Any], allowed: Sequence[str]) -> str | None:
    """The key of the augmentation that chooses what is read of each image, if there is one: the
    first of those that change an image.
    """
    from dltrain.data.mixer import Mix
    from dltrain.data.resized_crop import Framing

    parts = build.make_all(config, "augmentation", allowed)
    name = next((name for name, part in parts.items() if not isinstance(part, Mix)), None)
    return f"augmentation.{name}" if name and isinstance(parts[name], Framing) else None


def fits_device(num_bytes: int, device: torch.device) -> bool:
    if device.type == "cpu":
        return True
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return num_bytes < free / 2


def memory_for_training(device: torch.device) -> int:
    """Bytes that models may take on `device` by now."""
    if device.type == "cpu":
        from dltrain.data.memory import available_memory

        return available_memory()
    import torch

    return torch.cuda.mem_get_info(device)[0]


# ---------------------------------------------------------------------- the loaders


def make_loader(
    config: dict[str, Any],
    data: Data,
    split: str,
    device: torch.device,
    place: Placement,
    *,
    allowed: Sequence[str] = (),
    progress: Progress | None = None,
) -> Any:
    """The batches of a split on `device`; only those of `train` are shuffled and augmented.

    `place` is what `placement` says of the whole dataset. `progress` is called while images are
    decoded to be kept, as progress(what, done, of).
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
        if place.storage == "stream":
            return streamed(arrays, split, num_workers=place.num_workers, **options)
        shards = getattr(arrays.inputs, "shards", None)
        arrays = in_memory(arrays, split, place.num_workers, progress)
        return resident(arrays, storage=place.storage, shards=shards, **options)
    except ValueError as error:
        raise UserError(str(error)) from error


def streamed(arrays: Any, split: str, **options: Any) -> Any:
    import torch

    from dltrain.data.pictures import Pictures
    from dltrain.data.source import ArraySource
    from dltrain.data.streamed import StreamedLoader

    inputs = arrays.inputs
    source = inputs if isinstance(inputs, Pictures) else ArraySource(inputs, split)
    return StreamedLoader(source, torch.from_numpy(arrays.targets), **options)


def in_memory(arrays: Any, split: str, num_workers: int, progress: Progress | None) -> Any:
    """The arrays themselves; pictures are decoded."""
    from dltrain.data.pictures import Pictures

    if not isinstance(arrays.inputs, Pictures):
        return arrays
    from dltrain.data.read_all import read_all

    inputs = read_all(
        arrays.inputs, f"decoding {split} images", num_workers=num_workers, progress=progress
    )
    return type(arrays)(inputs, arrays.targets)


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
