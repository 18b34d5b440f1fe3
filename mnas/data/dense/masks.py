"""Mask files: PNG with the index of each pixel's class, as grey levels or as a palette's entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnas.data.dense.upright import TURNS, Header, drawn_sideways
from mnas.data.images import BrokenImage, opened
from mnas.errors import BadInput

SCALED = {"L;2": 85, "L;4": 17}
"""Grey levels of 2 and 4 bits, which pillow spreads over 0 to 255 -> by how much."""
COUNTED = 2**16
"""Smaller indices are counted, not sorted."""
SHOWN = 5
"""Unknown indices that an error lists."""


def read_mask(path: str | Path, header: Header, max_pixels: int) -> NDArray[np.int32]:
    """The class indices (height, width) of an image with this header.

    Raises BrokenImage for a damaged file or one of another size than the image, BadInput for a mask of colours.
    """
    try:
        mode, values, sideways = _values(path, header, max_pixels)
    except BrokenImage as error:
        raise BrokenImage(f"its mask {path}: {error}") from None
    _check_mode(path, mode)
    return np.ascontiguousarray(TURNS[header.orientation](values)) if sideways else values


def _values(path: str | Path, header: Header, max_pixels: int) -> tuple[str, NDArray[np.int32], bool]:
    """Pillow's mode, the indices, and whether they are for the image before it is turned upright."""
    with opened(path) as mask:
        if mask.width * mask.height > max_pixels:
            raise BrokenImage(f"{mask.width} x {mask.height} pixels, more than {max_pixels:,} (--max-pixels)")
        sideways = drawn_sideways(*mask.size, header, "it")
        scale = SCALED.get(_raw_mode(mask), 1) if mask.mode == "L" else 1
        return mask.mode, np.asarray(mask).astype(np.int32) // scale, sideways


def _check_mode(path: str | Path, mode: str) -> None:
    if mode not in ("1", "L", "P", "I") and not mode.startswith("I;16"):
        raise BadInput(
            f"{path}: the mask has colours (mode {mode}); expected the index of a class in each pixel (grey levels, "
            "mode L or I) or a palette (mode P); which colour is which class only you know: replace each colour by its "
            "class's index, and save that as a grey PNG"
        )


def _raw_mode(mask: Image.Image) -> str:
    tiles: Any = getattr(mask, "tile", None)
    args = tiles[0].args if tiles else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def classes_in(indices: NDArray[np.int32], ignore_index: int, num_classes: int | None) -> NDArray[np.int64]:
    """The classes in a mask, ascending. Raises BrokenImage for indices that are none of `num_classes`."""
    found = _occurring(indices)
    found = found[found != ignore_index]
    unknown = found[(found < 0) | (found >= num_classes)] if num_classes is not None else found[found < 0]
    if len(unknown):
        more = ", ..." if len(unknown) > SHOWN else ""
        raise BrokenImage(
            f"the mask has the index {', '.join(map(str, unknown[:SHOWN]))}{more}; expected 0 to "
            f"{'...' if num_classes is None else num_classes - 1}, or {ignore_index} for no class"
        )
    return found


def _occurring(indices: NDArray[np.int32]) -> NDArray[np.int64]:
    """The indices in a mask, ascending."""
    if indices.min() < 0 or indices.max() >= COUNTED:
        return np.unique(indices).astype(np.int64)
    return np.flatnonzero(np.bincount(indices.ravel())).astype(np.int64)  # some ten times as quick
