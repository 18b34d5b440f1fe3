"""Pixels of more than 8 bits: the range of values that a whole data set uses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mnas.data.images import BrokenImage, is_deep, opened, quiet_pillow, range_of
from mnas.data.reading import Reading

log = logging.getLogger("mnas.data")

DEEP_SUFFIXES = {".png", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".avif"}
"""Of files whose pixels may have more than 8 bits."""
LOOKED_AT = 1000
"""Files, at most, whose pixels are read to find the range."""
DARK = 63
"""Colours of 16 bits a channel are read by their upper 8, of which so few levels would be left of 14 bits."""


def with_range(root: Path, paths: Sequence[str], reading: Reading) -> Reading:
    """`reading` with the range of values in a folder's training images, where it states none."""
    if reading.value_range is not None:
        return reading
    _warn_of_dark_colours(root, paths)
    return replace(reading, value_range=_folder_range(root, paths))


def _folder_range(root: Path, paths: Sequence[str]) -> tuple[float, float] | None:
    """The smallest and the largest value in the images of more than 8 bits; None where there are none."""
    suspects = [path for path in paths if Path(path).suffix.lower() in DEEP_SUFFIXES]
    with quiet_pillow():
        deep = [path for path in suspects if _is_deep(path)]
        sample = [deep[i] for i in np.linspace(0, len(deep) - 1, min(LOOKED_AT, len(deep))).astype(int)]
        ranges = [found for found in map(_range_in, sample) if found is not None]
    if not ranges:
        return None
    value_range = min(low for low, _ in ranges), max(high for _, high in ranges)
    told(f"{root}: {len(deep)} images", value_range)
    return value_range


def told(what: str, value_range: tuple[float, float]) -> None:
    """Log the range; as a warning where an application that ignores it would see something else."""
    level = logging.INFO if value_range[0] < 2**13 and 2**15 <= value_range[1] < 2**16 else logging.WARNING
    log.log(
        level, "%s have more than 8 bits: their values %g to %g become 0 to 255 (preprocessing.json has the range)",
        what, *value_range,
    )  # fmt: skip


def _is_deep(path: str) -> bool:
    try:
        with opened(path) as image:
            return is_deep(image)
    except BrokenImage:
        return False


def _range_in(path: str) -> tuple[float, float] | None:
    try:
        with opened(path) as image:
            return range_of(np.asarray(image))
    except BrokenImage:
        return None


def _warn_of_dark_colours(root: Path, paths: Sequence[str]) -> None:
    """Warn where colour images of 16 bits a channel use so little of it that their upper 8 bits are nearly black."""
    sample = [paths[i] for i in np.linspace(0, len(paths) - 1, min(25, len(paths))).astype(int)]
    with quiet_pillow():
        brightest = [level for level in map(_brightest_of_16_bits, sample) if level is not None]
    if brightest and max(brightest) <= DARK:
        log.warning(
            "%s: colour images of 16 bits a channel are read by their upper 8 bits, and use %d of 256 levels of them: "
            "save them with 8 bits, scaled by the range that they use", root, max(brightest) + 1,
        )  # fmt: skip


def _brightest_of_16_bits(path: str) -> int | None:
    """The largest value of a file with 16 bits in each of several channels, as pillow reads it; None for others."""
    try:
        with opened(path) as image:
            if is_deep(image) or not _has_16_bit_channels(image):
                return None
            return int(np.asarray(image.convert("RGB")).max())
    except BrokenImage:
        return None


def _has_16_bit_channels(image: Image.Image) -> bool:
    """Whether the file has more bits than pillow's mode: its decoder is told so by names such as RGB;16B."""
    tiles = getattr(image, "tile", ())
    return any(";16" in str(tile[3]) for tile in tiles)
