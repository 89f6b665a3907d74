"""What the arguments of augmentations and image folders may be: lengths, ranges, colors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dltrain.config.schema import Rule, one_of


def pixels_or_part(value: Any) -> str | None:
    if (_is_whole(value) and 0 <= value <= 1024) or (isinstance(value, float) and 0 <= value <= 1):
        return None
    return "it must be a whole number of pixels from 0 to 1024, or a part of the side, 0.0 to 1.0"


def increasing(low: float, high: float) -> Rule:
    """Two numbers in (low, high]."""

    def rule(value: Any) -> str | None:
        if _is_pair(value) and low < value[0] <= value[1] <= high:
            return None
        return f"it must be two increasing numbers > {low:g} and <= {high:g}, such as [0.3, 0.9]"

    return rule


def jitter(low: float, high: float) -> Rule:
    """How far at most from the neutral value, or the range itself."""

    def rule(value: Any) -> str | None:
        if (_is_number(value) and 0 <= value <= high) or (
            _is_pair(value) and low <= value[0] <= value[1] <= high
        ):
            return None
        pair = f"two increasing numbers from {low:g} to {high:g}"
        return f"it must be a number from 0 to {high:g}, or {pair}"

    return rule


def beta_alpha(value: Any) -> str | None:
    inside = _is_number(value) and 0 < value <= 1000
    return None if inside else "it must be a number > 0 and <= 1000"


def whole_or_list(count: int, low: int, high: int, *, null: bool = False) -> Rule:
    """One whole number for all, or `count` of them."""
    text = f"it must be a whole number from {low} to {high}, or {count} of them"
    text += ", or null" if null else ""

    def rule(value: Any) -> str | None:
        numbers = value if isinstance(value, list) else [value] * count
        inside = all(_is_whole(number) and low <= number <= high for number in numbers)
        return None if (null and value is None) or (inside and len(numbers) == count) else text

    return rule


def image_side(value: Any) -> str | None:
    inside = _is_whole(value) and 1 <= value <= 4096
    return None if inside else "it must be a whole number of pixels from 1 to 4096"


def num_classes(value: Any) -> str | None:
    if value == "auto" or (_is_whole(value) and 1 <= value <= 10**6):
        return None
    return "it must be a whole number from 1 to 1000000, or auto: as many as the data has"


def images_or_part(value: Any) -> str | None:
    if (_is_whole(value) and value >= 0) or (isinstance(value, float) and 0 <= value < 1):
        return None
    return "it must be a whole number of images, or a part of all of them, >= 0.0 and < 1.0"


def crop_fraction(value: Any) -> str | None:
    inside = _is_number(value) and 0.1 <= value <= 1
    return None if inside else "it must be a number >= 0.1 and <= 1"


def or_auto(rule: Rule) -> Rule:
    """For what the data itself may say."""

    def checked(value: Any) -> str | None:
        wrong = None if value == "auto" else rule(value)
        return f"{wrong}, or auto: as the data has it" if wrong else None

    return checked


PICTURES: dict[str, Rule] = {
    "num_classes": num_classes,
    "size": image_side,
    "crop_fraction": crop_fraction,
    "decode": one_of("exact", "fast"),
}
IMAGE_FOLDER: dict[str, Rule] = PICTURES | {
    "num_val": images_or_part,
    "on_bad_image": one_of("error", "skip"),
}


def split_names(value: Any) -> str | None:
    names = ("train", "val", "test")
    ok = isinstance(value, list) and "train" in value and all(each in names for each in value)
    return None if ok else "it must be a list with train, and with val and test where they are"


def number_of_shards(value: Any) -> str | None:
    good = _is_whole(value) and value >= 0
    return None if good else "it must be a whole number of shards, or 0: all of them"


MDS: dict[str, Rule] = {
    "splits": split_names,
    "size": image_side,
    "crop_fraction": crop_fraction,
    "decode": one_of("exact", "fast"),
    "shuffle_window": number_of_shards,
}


def image_disagreements(
    augmentation: Mapping[str, Any] | None, dataset: Mapping[str, Any]
) -> Iterator[tuple[str, Any, str]]:
    """Parts that are not for images of the dataset's shape."""
    shape = dataset.get("image_shape")
    if not isinstance(shape, list) or len(shape) != 3:  # not for images, or known to the data only
        return
    for name, part in (augmentation or {}).items():
        target = part["_target_"].removeprefix("dltrain.data.")
        if target.startswith(("color.", "policies.")) and shape[0] not in (1, 3):
            wanted = f"augmentation.{name} is for images of 1 or 3 channels"
            yield "dataset.image_shape", shape, wanted
        value = part.get("value") if target == "erase.Erase" else None
        if isinstance(value, list) and len(value) != shape[0]:
            wanted = f"it must be one number, as dataset.image_shape has {shape[0]} channels"
            yield f"augmentation.{name}.value", value, wanted
        size = part.get("size") if target == "resized_crop.RandomResizedCrop" else None
        if size is not None and ([size] * 2 if _is_whole(size) else size) != shape[1:]:
            wanted = f"it must be null, or that of the images, which is {shape[1:]}"
            yield f"augmentation.{name}.size", size, wanted


def mix_disagreements(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Mixed targets have one share for each of the model's classes."""
    logits = config["model"].get("num_classes")
    for name, part in (config["augmentation"] or {}).items():
        shares = part.get("num_classes")
        is_mix = part["_target_"].startswith("dltrain.data.mix.")
        if is_mix and _is_whole(logits) and shares != logits:
            wanted = f"it must be model.num_classes, which is {logits}"
            yield f"augmentation.{name}.num_classes", shares, wanted


def view_disagreements(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Views other than `none` are for images that can be mirrored and moved."""
    views, shape = config["task"].get("views", "none"), config["dataset"].get("image_shape")
    is_image = isinstance(shape, list) and len(shape) == 3 and all(map(_is_whole, shape))
    if isinstance(shape, list) and views != "none" and not (is_image and min(shape[1:]) >= 2):
        wanted = f"it must be none, as dataset.image_shape is {shape}: no image of 2 x 2 or more"
        yield "task.views", views, wanted


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
