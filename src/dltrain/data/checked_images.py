"""All files of an image folder checked at once: what is bad is named or left out, before step 1."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from dltrain.data.download import Progress, replacing
from dltrain.data.files import printable
from dltrain.data.folder_scan import Files
from dltrain.data.header_cache import BAD_LIST, cache_path, keep_kinds, known_kinds
from dltrain.data.headers import check_headers
from dltrain.data.listing import describe

_NUM_SHOWN = 5  # with the line above them a screen's six
ACTIONS = ("error", "skip")


def check_images(
    root: Path, files: Files, *, on_bad_image: str, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """KIND [N], which of the files are images, bool [N], and what a user may want to know.

    Only what is new or was changed since the last start is opened. Raises ValueError with the
    first bad files where `on_bad_image` is error.
    """
    place = os.fsencode(root)
    path = cache_path(place)
    kinds, known = known_kinds(path, files)
    reasons: dict[int, str] = {}
    if not known.all():
        todo = np.flatnonzero(~known)
        said = f"checking {printable(str(root), 60)}, images"
        kinds[todo], reasons = check_headers(
            place,
            files.names,
            todo,
            lambda done: progress(said, done, len(todo)) if progress is not None else None,
        )
        _keep(path, files, kinds)
    good = kinds["height"] > 0
    if reasons and on_bad_image == "error":
        raise ValueError(_refusal(root, files, reasons))
    notes = [describe(kinds[good])]
    if reasons:
        left_out = f"{len(reasons):,} of {len(files):,} images are bad and left out"
        notes.insert(0, left_out + _listed(path, files, reasons))
    return kinds, good, [note for note in notes if note]


def _keep(path: Path | None, files: Files, kinds: np.ndarray) -> None:
    """What is good: a bad file may be mended without a change of its size or time (`chmod`)."""
    good = np.flatnonzero(kinds["height"] > 0)
    if len(good):
        columns = (files.targets[good], files.num_bytes[good], files.mtime_ns[good])
        keep_kinds(path, Files(files.names.take(good), *columns), kinds[good])


def _refusal(root: Path, files: Files, reasons: dict[int, str]) -> str:
    heading = (
        f"{len(reasons):,} of the {len(files):,} images in {printable(str(root), 200)} cannot be "
        "used; mend them, or leave them out with `dataset.on_bad_image=skip`"
    )
    return "\n".join([heading, *_lines(files, reasons, list(reasons)[:_NUM_SHOWN])])


def _lines(files: Files, reasons: dict[int, str], places: Sequence[int]) -> list[str]:
    return [
        f"  {printable(files.names[each], 200)}: {printable(reasons[each], 200)}" for each in places
    ]


def _listed(path: Path | None, files: Files, reasons: dict[int, str]) -> str:
    """Where all of them are listed; where there is no such place, the first few."""
    if path is not None:
        listing = path.with_suffix(BAD_LIST)
        with suppress(OSError), replacing(listing) as part:
            lines = _lines(files, reasons, sorted(reasons))
            part.write_text("\n".join(lines) + "\n", encoding="utf-8")
            return f": {listing}"
    return "".join(
        ["", *(f"\n{each}" for each in _lines(files, reasons, list(reasons)[:_NUM_SHOWN]))]
    )
