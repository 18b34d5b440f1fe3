"""Masks and boxes drawn over images, and images side by side, by pillow."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

STRENGTH = 0.6
"""Of a mask's colour over the image."""
GOLDEN = 0.61803398875
"""Hues that differ by this part of the circle stay apart, however many there are."""
UNKNOWN = (255, 255, 255)
"""The colour of pixels that are of no class."""
GAP, LINE = 6, 16
"""Pixels between pictures, and of a line of text."""


def colour_of(number: int) -> tuple[int, int, int]:
    """The colour of a class by its number; that of 0, which is the background in most data, is black."""
    if number == 0:
        return 0, 0, 0
    saturation, value = 0.75 if number % 2 else 1.0, 1.0 if number % 3 else 0.8
    red, green, blue = colorsys.hsv_to_rgb((number * GOLDEN) % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def palette_image(mask: NDArray[np.integer], num_classes: int) -> Image.Image:
    """Indices (h, w) as an image of the same values: with a palette, or 16 bits where there are more than 256."""
    if num_classes > 256:
        return Image.fromarray(mask.astype(np.uint16))
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette([value for number in range(num_classes) for value in colour_of(number)])
    return image


def masked(image: Image.Image, mask: NDArray[np.integer], num_classes: int) -> Image.Image:
    """A mask (h, w) in colours over an RGB image of its size; class 0 as it is, pixels of no class white."""
    colours = np.array([*map(colour_of, range(num_classes)), UNKNOWN], np.float32)
    known = np.where((mask >= 0) & (mask < num_classes), mask, num_classes)
    pixels = np.asarray(image, np.float32)
    mixed = STRENGTH * colours[known] + (1 - STRENGTH) * pixels
    return Image.fromarray(np.where((known == 0)[..., None], pixels, mixed).round().astype(np.uint8))


def boxed(
    image: Image.Image, boxes: Sequence[Sequence[float]], names: Sequence[str], labels: Sequence[int]
) -> Image.Image:
    """Boxes (x1, y1, x2, y2 in pixels) with names over an RGB image, the first ones on top."""
    drawn = image.copy()
    draw, font = ImageDraw.Draw(drawn), _font(11)
    width = max(2, round(min(image.size) / 150))
    for box, name, label in reversed(list(zip(boxes, names, labels, strict=True))):
        colour = colour_of(label)
        draw.rectangle([round(value) for value in box], outline=colour, width=width)
        left, _, right, bottom = draw.textbbox((0, 0), name, font=font)
        x = max(0, min(box[0], image.width - right - 3))
        y = box[1] - bottom - 2 if box[1] >= bottom + 2 else box[1]
        draw.rectangle([x, y, x + right - left + 4, y + bottom + 1], fill=colour)
        draw.text((x + 2, y), name, fill="black" if sum(colour) > 300 else "white", font=font)
    return drawn


def table_of(
    rows: Sequence[Sequence[Image.Image]], titles: Sequence[str], legend: Sequence[tuple[str, int]]
) -> Image.Image:
    """Pictures in rows below titles; below them the colours of classes by their names and numbers."""
    widths = [max(row[column].width for row in rows) for column in range(len(titles))]
    heights = [max(one.height for one in row) for row in rows]
    font = _font(12)
    whole = sum(widths) + GAP * (len(widths) + 1)
    keys = _key_lines(legend, whole, font)
    lines = 1 + max((line for _, line, _, _ in keys), default=-1)
    height = 2 * GAP + LINE + sum(heights) + GAP * len(heights) + (LINE + 2) * lines
    sheet = Image.new("RGB", (whole, height), "white")
    draw, y = ImageDraw.Draw(sheet), GAP
    for column, title in enumerate(titles):
        draw.text((GAP + sum(widths[:column]) + GAP * column, y), title, fill="black", font=font)
    y += LINE + GAP
    for row, height in zip(rows, heights, strict=True):
        for column, one in enumerate(row):
            sheet.paste(one, (GAP + sum(widths[:column]) + GAP * column, y))
        y += height + GAP
    for x, line, name, number in keys:
        top = y + line * (LINE + 2)
        draw.rectangle([x, top + 2, x + 10, top + 12], fill=colour_of(number), outline="black")
        draw.text((x + 15, top), name, fill="black", font=font)
    return sheet


def _key_lines(legend: Sequence[tuple[str, int]], width: int, font: Font) -> list[tuple[int, int, str, int]]:
    """Left edge, line, name and number of each entry."""
    x, line, found = GAP, 0, []
    for name, number in legend:
        needed = 15 + round(font.getlength(name)) + 12
        if x > GAP and x + needed > width:
            x, line = GAP, line + 1
        found.append((x, line, name, number))
        x += needed
    return found


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
