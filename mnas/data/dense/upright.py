"""Images that their EXIF orientation turns upright, and the masks and boxes that were drawn on them before that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags

from mnas.data.images import BrokenImage, opened

TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    5: np.transpose,
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).T,
    8: np.rot90,
}
"""EXIF orientation -> what turns (height, width) arrays upright, of those that exchange width and height."""


class Header(NamedTuple):
    """What a file's header says."""

    width: int
    """Of the upright image."""
    height: int
    orientation: int
    """As in EXIF: 1 is upright, 5 to 8 exchange width and height."""


def header_of(path: str | Path) -> Header:
    """Size and orientation of an image file, read without its pixels. Raises BrokenImage."""
    with opened(path) as image:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        width, height = image.size
    turned = orientation in TURNS
    return Header(height if turned else width, width if turned else height, orientation if turned else 1)


def drawn_sideways(width: int, height: int, header: Header, what: str) -> bool:
    """Whether a mask or boxes of this width and height belong to the image before it is turned upright.

    Raises BrokenImage, which names `what`, where they belong to neither.
    """
    if (width, height) == (header.width, header.height):
        return False
    if header.orientation != 1 and (height, width) == (header.width, header.height):
        return True
    raise BrokenImage(f"{what} is for {width} x {height} pixels, the image has {header.width} x {header.height}")


def turned_boxes(boxes: NDArray[np.float64], header: Header) -> NDArray[np.float64]:
    """Boxes (n, 4) of the pixels as they are stored, in those of the upright image."""
    x, y = boxes[:, 0::2], boxes[:, 1::2]  # (n, 2) each
    right, lower = header.height, header.width  # width and height as stored
    across, down = {5: (y, x), 6: (lower - y, x), 7: (lower - y, right - x), 8: (y, right - x)}[header.orientation]
    ends = across.min(1), down.min(1), across.max(1), down.max(1)
    return np.stack(ends, 1)
