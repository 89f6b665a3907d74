"""Pictures of an evaluation, drawn with Pillow: mistakes with what was said of them, confusions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from dltrain.plain import printable

CELL = 112  # pixels: to about this size small images are enlarged
LINE = 13  # pixels of a line of text
FONT = 10
MAX_SIDE = 224  # of an image among the mistakes; larger ones are made smaller
MAX_NAMED = 30  # classes, up to which a confusion matrix has names and numbers
# TensorBoard makes pictures smaller by leaving pixels out: what it shows at half its size or less
# has strokes of several pixels. Of more than so many classes numbers have no room in its card
FEW, FEW_CELL, FEW_FONT, MANY_CELL = 15, 72, 32, 26
MAX_NAME = 11  # letters of a class
MAX_PIXELS = 600  # of a matrix of more classes
BLUE = np.array([0x08, 0x45, 0x94])
GREEN, RED, INK, PAPER = "#007050", "#b02000", "black", "white"


def draw_mistakes(images: np.ndarray, captions: Sequence[tuple[str, str]]) -> np.ndarray:
    """uint8 [N, H, W, C] and what was true and what was said of each -> RGB [H', W', 3]."""
    from PIL import Image, ImageDraw

    cells = [fitted(image) for image in images]
    width, height = (max(each.size[axis] for each in cells) for axis in (0, 1))
    width, height = max(width, CELL) + 8, height + 2 * LINE + 10
    num_columns = int(np.ceil(np.sqrt(len(cells))))
    num_rows = -(-len(cells) // num_columns)
    canvas = Image.new("RGB", (num_columns * width, num_rows * height), PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, (cell, lines) in enumerate(zip(cells, captions, strict=True)):
        top, left = number // num_columns * height, number % num_columns * width
        canvas.paste(cell, (left + (width - cell.width) // 2, top + 2))
        for row, (text, color) in enumerate(zip(lines, (GREEN, RED), strict=True)):
            place = (left + 4, top + height - (2 - row) * LINE - 5)
            draw.text(place, clipped(text, width - 6), fill=color, font=font())
    return np.asarray(canvas)


def fitted(image: np.ndarray) -> Any:
    """Small images are enlarged by a whole number, so that pixels stay squares."""
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("RGB")
    scale = round(CELL / max(picture.size))
    if scale > 1:
        size = (picture.width * scale, picture.height * scale)
        return picture.resize(size, Image.Resampling.NEAREST)
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    return picture


def confusion_sheet(confusion: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """int64 [K, K], rows are the truth -> RGB [H, W, 3]; colours are shares of each row.

    For a logger, with what every installation has; plots.draw_confusion is that of a file.
    """
    shares = confusion / np.maximum(1, confusion.sum(1, keepdims=True))
    colors = (255 - shares[..., None] * (255 - BLUE)).round().astype(np.uint8)
    if len(classes) > MAX_NAMED:
        return enlarged(colors)
    return labelled(confusion, shares, colors, classes)


def enlarged(colors: np.ndarray) -> np.ndarray:
    """A pixel or more a class; of more classes than fit, the darkest of each block."""
    block = -(-len(colors) // MAX_PIXELS)
    if block > 1:
        missing = -len(colors) % block
        padded = np.pad(colors, ((0, missing), (0, missing), (0, 0)), constant_values=255)
        side = len(padded) // block
        colors = padded.reshape(side, block, side, block, 3).min((1, 3))
    scale = max(1, MAX_PIXELS // len(colors))
    return colors.repeat(scale, 0).repeat(scale, 1)


def labelled(
    confusion: np.ndarray, shares: np.ndarray, colors: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    from PIL import Image, ImageDraw

    count = len(classes)
    side, size = (FEW_CELL, FEW_FONT) if count <= FEW else (MANY_CELL, FONT)
    line, letters = round(1.3 * size), font(size)
    names = [clipped(name, MAX_NAME * size, size) for name in classes]
    margin = int(max(letters.getlength(name) for name in names)) + size
    edge = margin + line + size // 2
    canvas = Image.new("RGB", (edge + count * side + size, edge + count * side + size), PAPER)
    cells = Image.fromarray(colors.repeat(side, 0).repeat(side, 1))
    canvas.paste(cells, (edge, edge))
    draw = ImageDraw.Draw(canvas)
    end = edge + count * side
    draw.rectangle((edge - 1, edge - 1, end, end), outline="#999999", width=max(1, size // 10))
    title = clipped("predicted, across; true, down", edge + count * side, size)
    draw.text((0, 0), title, fill="#555555", font=letters)
    is_upright = margin < side  # short names stay so
    for number, name in enumerate(names):
        middle = edge + number * side + (side - line) // 2
        draw.text((edge - size // 2 - letters.getlength(name), middle), name, INK, letters)
        if is_upright:
            left = edge + number * side + (side - letters.getlength(name)) / 2
            draw.text((left, edge - line - size // 4), name, INK, letters)
            continue
        turned = Image.new("RGB", (margin - size // 2, line), PAPER)
        ImageDraw.Draw(turned).text((0, 0), name, INK, letters)
        canvas.paste(turned.rotate(90, expand=True), (middle, edge - margin + size // 4))
    for row, column in np.argwhere(confusion).tolist():
        text = compact(confusion[row, column])
        left = edge + column * side + (side - letters.getlength(text)) / 2
        color = PAPER if shares[row, column] > 0.5 else INK
        draw.text((left, edge + row * side + (side - line) // 2), text, color, letters)
    return np.asarray(canvas)


def compact(value: int) -> str:
    """In four characters: 950, 1.2k, 13k, 2.5M."""
    for unit, size in (("M", 10**6), ("k", 1000)):
        if value >= size:
            return f"{value / size:.1f}{unit}" if value < 10 * size else f"{value // size}{unit}"
    return str(value)


def clipped(text: str, width: float, size: int = FONT) -> str:
    """Printable, and no wider than `width` pixels."""
    text = printable(text[:60])
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


@cache
def font(size: int = FONT) -> Any:
    """The one inside Pillow, which every wheel of Pillow can draw (it has FreeType)."""
    from PIL import ImageFont

    return ImageFont.load_default(size)
