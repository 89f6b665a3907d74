"""cfg -> a packed set: the splits of a dataset of image files in a few large ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dltrain.build_data import Progress, check_splits, load_splits
from dltrain.errors import UserError


def make_plan(
    config: dict[str, Any], allowed: Sequence[str] = (), progress: Progress | None = None
) -> Any:
    """Reads the dataset, and says where each of its images will lie. Raises UserError."""
    from dltrain.data import packing_plan
    from dltrain.data.pictures import Pictures

    target, settings = config["dataset"]["_target_"], config["prepare"]
    dataset, splits = load_splits(config, allowed, progress)
    splits = check_splits(splits, target)
    if not isinstance(splits["train"].inputs, Pictures) or not len(splits["train"].targets):
        raise UserError(
            f"{target} gives arrays, which are in memory and need no packing; choose a dataset of "
            "image files, such as dataset=image_folder"
        )
    classes = tuple(getattr(dataset, "classes", map(str, range(dataset.num_classes))))
    facts = packing_plan.Facts(
        dataset.num_classes, classes, tuple(dataset.mean), tuple(dataset.std)
    )
    if settings["store"] == "files" and not hasattr(splits["train"].inputs.shelf, "content"):
        raise UserError(f"{target} does not give its files; choose prepare.store=uint8")
    return packing_plan.make_plan(
        splits,
        facts,
        store=settings["store"],
        side=settings["side"],
        shard_bytes=settings["shard_mib"] << 20,
    )


def finished(plan: Any, root: Path, progress: Progress | None = None) -> Any:
    """The manifest of the set that `plan` is of, every byte verified; None where there is none."""
    from dltrain.data.packed_layout import verify
    from dltrain.data.packed_record import finished

    try:
        manifest = finished(root, plan)
        if manifest is not None:
            verify(root, manifest, progress)
    except ValueError as error:
        raise UserError(str(error)) from error
    return manifest


def pack(
    config: dict[str, Any],
    plan: Any,
    root: Path,
    progress: Progress | None,
    stopped: Callable[[], bool],
) -> Any:
    """The manifest; None where it was stopped. Raises UserError, WorkerError and OSError."""
    from dltrain.data import packing
    from dltrain.data.workers import suitable_workers

    workers = config["prepare"]["num_workers"]

    try:
        return packing.pack(
            plan,
            root,
            num_workers=suitable_workers() if workers == "auto" else workers,
            skip=config["dataset"].get("on_bad_image") == "skip",
            progress=progress,
            stopped=stopped,
        )
    except packing.Stopped:
        return None
    except ValueError as error:
        raise UserError(str(error)) from error


def is_packed_set(root: Path) -> bool:
    """Whether there is one, or a part of one."""
    from dltrain.data.packed_layout import MANIFEST, PROGRESS

    return any((root / name).is_file() for name in (MANIFEST, PROGRESS))
