"""Pixels of more than 8 bits: the range of values that a whole data set uses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mnas.data.deep import deep_values, is_deep, range_of
from mnas.data.images import BrokenImage, opened, quiet_pillow
from mnas.data.reading import Reading

log = logging.getLogger("mnas.data")

DEEP_SUFFIXES = {".png", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".avif"}
"""Of files whose pixels may have more than 8 bits."""
LOOKED_AT = 1000
"""Files, at most, whose pixels are read to find the range."""


def with_range(root: Path, paths: Sequence[str], reading: Reading) -> Reading:
    """`reading` with the range of values in a folder's training images, where it states none."""
    if reading.value_range is not None:
        return reading
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
    told(f"{root}: {len(deep)} image{'s' * (len(deep) != 1)}", value_range)
    return value_range


def told(what: str, value_range: tuple[float, float]) -> None:
    """Log the range; as a warning where an application that ignores it would see something else."""
    level = logging.INFO if value_range[0] < 2**13 and 2**15 <= value_range[1] < 2**16 else logging.WARNING
    log.log(
        level, "%s of more than 8 bits: values %g to %g become 0 to 255 (preprocessing.json has the range)",
        what, *value_range,
    )  # fmt: skip


def warn_of_depth(paths: Sequence[str], reading: Reading) -> None:
    """Say where images have more bits than those of the training, or fewer: their values mean something else."""
    with quiet_pillow():
        deep = [path for path in paths if Path(path).suffix.lower() in DEEP_SUFFIXES and _is_deep(path)]
    if deep and reading.value_range is None:
        log.warning(
            "images of more than 8 bits: %d, such as %s, and the training had none: values 0 to 65535 become 0 to "
            "255", len(deep), deep[0],
        )  # fmt: skip
    if reading.value_range is not None and len(deep) < len(paths):
        log.warning(
            "images of 8 bits: %d, and the training had images of more, with values %g to %g: theirs are not scaled",
            len(paths) - len(deep), *reading.value_range,
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
            values = deep_values(path, image)
            return range_of(values[..., :3] if values.ndim == 3 else values)
    except BrokenImage:
        return None
