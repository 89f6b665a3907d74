"""Draws docs/images/augmentations.png: every choice of `augmentation=`, eight draws each.

    python scripts/show_augmentations.py [FILE]

The photographs come with scikit-learn. Needs matplotlib: pip install matplotlib
"""

import io
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from dltrain import build
from dltrain.config.check import check
from dltrain.config.compose import compose, config_dir, job_config
from dltrain.data.mixer import separate
from dltrain.data.randomness import Draws

SIDE, NUM_DRAWS = 72, 8
SHEET = Path(__file__).parents[1] / "docs" / "images" / "augmentations.png"


def photographs() -> torch.Tensor:
    """uint8 [8, 3, SIDE, SIDE]: two photographs, cut square and made small, by turns."""
    squares = []
    for photograph in load_sample_images().images:
        square = torch.tensor(photograph).permute(2, 0, 1)[:, :427, 100:527].float()
        small = torch.nn.functional.interpolate(square[None], SIDE, mode="bilinear", antialias=True)
        squares.append(small.round().to(torch.uint8))
    return torch.cat(squares * (NUM_DRAWS // 2))


def augmented(choice: str, images: torch.Tensor) -> torch.Tensor:
    config = check(job_config(compose([f"augmentation={choice}"])))
    index = torch.arange(len(images))
    parts = list(build.make_all(config, "augmentation", ()).values())
    targets, shape = torch.zeros_like(index), tuple(images.shape[1:])
    parts, mixer = separate(parts, targets, world_size=1)
    for number, part in enumerate(parts):
        images = part(images, part.draw(Draws(0, 0, number, index), shape))
    columns, draws = (images.float(), targets, index), mixer.draw(0, 0, index, shape)
    (mixed, _, _), _ = mixer(columns, draws, [len(images)])
    return mixed.round().to(torch.uint8)


def main(file: Path) -> None:
    choices = sorted(path.stem for path in (config_dir() / "augmentation").glob("*.yaml"))
    choices.sort(key=lambda choice: choice != "none")  # the pictures as they are come first
    gap, images = 4, photographs()
    step = SIDE + gap
    sheet = torch.full((3, step * len(choices), step * NUM_DRAWS), 255, dtype=torch.uint8)
    for row, choice in enumerate(choices):
        for column, image in enumerate(augmented(choice, images)):
            down, right = row * step, column * step
            sheet[:, down : down + SIDE, right : right + SIDE] = image
    height, width = sheet.shape[1:]
    label = 170
    figure = plt.figure(figsize=((width + label) / 100, height / 100), dpi=100)
    axes = figure.add_axes((label / (width + label), 0, width / (width + label), 1))
    axes.imshow(sheet.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_axis_off()
    for row, choice in enumerate(choices):
        place = row * step + SIDE / 2
        axes.text(-12, place, choice, ha="right", va="center", family="monospace", fontsize=11)
    picture = io.BytesIO()
    figure.savefig(picture)
    with Image.open(picture) as full:  # a palette takes less than half of the bytes
        full.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SHEET)
