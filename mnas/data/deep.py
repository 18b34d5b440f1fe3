"""Images of more than 8 bits: their values, which pillow gives of one channel, but of colours only the upper 8 bits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

OTHER_BYTE = {
    ";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L",
}  # fmt: skip
"""Pillow's decoders keep the upper byte of each colour's 16 bits; told the other byte order, the lower one."""


def is_deep(image: Image.Image) -> bool:
    """Whether the pixels of an opened file, not loaded yet, have 16 or 32 bits, or are floating-point numbers."""
    return image.mode == "F" or image.mode.startswith("I") or _has_16_bit_colours(image)


def deep_values(path: str | Path, image: Image.Image) -> NDArray[Any]:
    """The values of an opened file that `is_deep`, upright: (h, w), or of colours (h, w, 3), with transparency 4."""
    if not _has_16_bit_colours(image):
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(image)
    with Image.open(path) as other:
        other.tile = [tile._replace(args=_of_other_byte(tile.args)) for tile in other.tile]
        upper, lower = (np.asarray(ImageOps.exif_transpose(one)) for one in (image, other))
    return upper.astype(np.uint16) << 8 | lower


def range_of(values: NDArray[Any]) -> tuple[float, float]:
    """The smallest and the largest finite value; (0, 1) where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def in_8_bits(values: NDArray[Any], value_range: tuple[float, float]) -> NDArray[np.uint8]:
    """`values` as uint8: the range becomes 0 to 255, what lies outside is clipped, NaN is 0."""
    low, high = value_range
    scaled = (np.nan_to_num(values.astype(np.float64), nan=low) - low) * (255 / (high - low) if high > low else 0.0)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _has_16_bit_colours(image: Image.Image) -> bool:
    """Whether the file has more bits than pillow's mode: its decoder is told so by names such as RGB;16B."""
    if image.mode not in ("RGB", "RGBA") or "transparency" in image.info:
        return False
    return any(_raw_mode(tile.args).startswith(f"{image.mode};16") for tile in getattr(image, "tile", ()))


def _raw_mode(args: Any) -> str:
    return str(args[0] if isinstance(args, tuple) and args else args)


def _of_other_byte(args: Any) -> Any:
    raw_mode = _raw_mode(args)
    other = raw_mode[:-4] + OTHER_BYTE[raw_mode[-4:]]
    return (other, *args[1:]) if isinstance(args, tuple) else other
