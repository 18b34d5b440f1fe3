"""One image file: decoded to RGB pixels, or named as broken."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

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
    """An image file that cannot be decoded; the text is the reason."""


class BrokenImages:
    """The broken image files of one data source: each is named once, in a warning; past `limit` BadInput is raised."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.found: dict[str, str] = {}

    def add(self, path: str, reason: str) -> None:
        """Note that `path` is skipped."""
        if path in self.found:
            return
        self.found[path] = reason
        log.warning("skipped a broken image: %s (%s)", path, reason)
        if len(self.found) > self.limit:
            first = ", ".join(list(self.found)[:3])
            raise BadInput(
                f"{len(self.found)} broken images, more than the {self.limit} that may be skipped: {first}"
                f"{', ...' if len(self.found) > 3 else ''}; repair or delete them, or allow more: --max-broken N."
            )


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Hide pillow's own warnings (odd metadata, very large images): what cannot be decoded is reported by its name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def decode(path: str, size: int) -> NDArray[np.uint8]:
    """RGB pixels (size, size, 3): upright, shorter side resized to `size` (antialiased), centre-cropped.

    Raises BrokenImage.
    """
    try:
        with Image.open(path) as image:
            # A JPEG is decoded at a half, quarter or eighth where that still leaves twice the wanted pixels.
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
    except Exception as error:  # a damaged file makes pillow's plugins raise nearly anything
        raise BrokenImage(_reason(error, path)) from error


def shorter_side(path: str) -> int:
    """Pixels of the shorter side, from the file's header alone. Raises BrokenImage."""
    try:
        with Image.open(path) as image:
            return min(image.size)
    except MemoryError:
        raise
    except Exception as error:
        raise BrokenImage(_reason(error, path)) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; save it as 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits: pillow's own conversion would clip at 255
        values = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception, path: str) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).replace(repr(path), "").strip() or type(error).__name__
    return text.splitlines()[0]
