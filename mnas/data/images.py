"""One image file, decoded to RGB pixels or recorded as broken."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mnas.errors import BadInput

log = logging.getLogger("mnas.data")

SUFFIXES = {
    *(".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm"),
    *(".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
}


class BrokenImage(Exception):
    """An image file cannot be decoded; the text is the reason."""


class BrokenImages:
    """The broken image files of one data source. Each is logged once; more than `limit` raise BadInput."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reasons: dict[str, str] = {}  # by path

    def add(self, path: str | Path, reason: str) -> None:
        """Record that `path` is skipped. Raises BadInput past the limit."""
        path = str(path)
        if path in self.reasons:
            return
        self.reasons[path] = reason
        log.warning("skipped a broken image: %s (%s)", path, reason)
        if len(self.reasons) > self.limit:
            first = ", ".join(list(self.reasons)[:3])
            raise BadInput(
                f"{len(self.reasons)} broken images, more than the limit of {self.limit}: {first}"
                f"{', ...' if len(self.reasons) > 3 else ''}; repair or delete them, or raise the limit: --max-broken N"
            )


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Hide pillow's warnings about odd metadata and very large images; broken images are reported by path."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def decode(path: str | Path, size: int) -> NDArray[np.uint8]:
    """RGB pixels uint8 (size, size, 3): upright, shorter side resized to `size` (antialiased), centre-cropped.

    Raises BrokenImage.
    """
    try:
        with Image.open(path) as image:
            # JPEGs are decoded at 1/2, 1/4 or 1/8 of their size where that still has twice the wanted pixels.
            image.draft(None, (2 * size, 2 * size))
            ImageOps.exif_transpose(image, in_place=True)
            rgb = _to_rgb(image)
        width, height = rgb.size
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        small = rgb.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
        return np.asarray(small, dtype=np.uint8)
    except MemoryError:
        raise
    except Exception as error:  # pillow's plugins raise errors of many classes for a damaged file
        raise BrokenImage(_reason(error, path)) from error


def shorter_side(path: str | Path) -> int:
    """The shorter side in pixels, read from the file's header. Raises BrokenImage."""
    try:
        with Image.open(path) as image:
            return min(image.size)
    except MemoryError:
        raise
    except Exception as error:
        raise BrokenImage(_reason(error, path)) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits: pillow's own conversion would clip at 255
        values = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception, path: str | Path) -> str:
    """The first line of the error, without the path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).replace(repr(str(path)), "").strip() or type(error).__name__
    return text.splitlines()[0]
